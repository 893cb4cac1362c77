"""A store over another one: what is written stays above, what is read may lie below."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager

from infra.objects.errors import ObjectMissing
from infra.objects.store import CHUNK, Content, ObjectStat, ObjectStore
from infra.streams import Chunk


class OverlayObjects:
    """`below` is never changed, so nothing of it can be deleted."""

    def __init__(self, above: ObjectStore, below: ObjectStore) -> None:
        self._above, self._below = above, below

    def put(self, key: str, chunks: Iterable[Chunk], size: int) -> None:
        self._above.put(key, chunks, size)

    def read(
        self, key: str, span: range | None = None, *, expected_etag: str | None = None, chunk: int = CHUNK
    ) -> AbstractContextManager[Content]:
        return self._holding(key).read(key, span, expected_etag=expected_etag, chunk=chunk)

    def stat(self, key: str) -> ObjectStat:
        return self._holding(key).stat(key)

    def delete(self, key: str) -> None:
        """Of what was written here."""
        self._above.delete(key)

    def keys(self, prefix: str) -> Iterator[str]:
        return iter(sorted({*self._above.keys(prefix), *self._below.keys(prefix)}))

    def _holding(self, key: str) -> ObjectStore:
        try:
            self._above.stat(key)
        except ObjectMissing:
            return self._below
        return self._above
