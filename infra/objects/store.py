"""The object store as we use it: whole uploads, ranges, a look, a list, a delete."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from infra.objects.errors import ObjectTooLarge
from infra.streams import Chunk

CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class ObjectStat:
    """The etag says whether an object is still the same one: compare it with later answers, nothing else."""

    size: int
    etag: str


@dataclass(frozen=True, slots=True)
class Content:
    """What a read gives: how much of which object, and the bytes, once.

    `into`, where the store has a shorter way, puts the next bytes into a buffer and says how many, fewer than
    there is room for only at the end.  Use it or the chunks.
    """

    size: int
    etag: str
    chunks: Iterator[bytes]
    into: Callable[[memoryview], int] | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self.chunks


class ObjectStore(Protocol):
    """Methods block: call them in a worker thread.  They may be called from many threads at once.

    Raises `ObjectMissing`, `ObjectChanged` and, for every fault, `ObjectStoreUnavailable`.
    """

    def put(self, key: str, chunks: Iterable[Chunk], size: int) -> None:
        """Store exactly `size` bytes: all of them or, after an exception, none that can be read."""
        ...

    def read(
        self, key: str, span: range | None = None, *, expected_etag: str | None = None, chunk: int = CHUNK
    ) -> AbstractContextManager[Content]:
        """The bytes, or those of a range; as with a slice, what lies beyond the end is just not there.

        No chunk has more than `chunk` bytes, and no more than one is held.
        """
        ...

    def stat(self, key: str) -> ObjectStat: ...

    def delete(self, key: str) -> None:
        """Afterwards there is no such object, as perhaps there was none before."""
        ...

    def keys(self, prefix: str) -> Iterator[str]:
        """All keys below a folder; `prefix` ends with a slash, or is empty."""
        ...


def fetch(store: ObjectStore, key: str, limit: int) -> bytes:
    """A small object as a whole."""
    found = bytearray()
    with store.read(key) as chunks:
        for chunk in chunks:
            found += chunk
            if len(found) > limit:
                raise ObjectTooLarge(key, limit)
    return bytes(found)
