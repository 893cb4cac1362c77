"""The in-memory twin of the object store."""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from infra.objects.errors import ObjectChanged, ObjectMissing
from infra.objects.store import CHUNK, Content, ObjectStat
from infra.streams import Chunk


class MemoryObjects:
    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}

    def put(self, key: str, chunks: Iterable[Chunk], size: int) -> None:
        content = b"".join(chunks)
        if len(content) != size:
            raise ValueError(f"{len(content)} bytes were given for {key}, not the {size} announced")
        self._objects[key] = content

    @contextmanager
    def read(
        self, key: str, span: range | None = None, *, expected_etag: str | None = None, chunk: int = CHUNK
    ) -> Iterator[Content]:
        etag = self.stat(key).etag
        if expected_etag not in {None, etag}:
            raise ObjectChanged(key)
        content = self._content(key)
        part = memoryview(content) if span is None else memoryview(content)[span.start : span.stop]
        chunks = (bytes(part[at : at + chunk]) for at in range(0, len(part), chunk))
        yield Content(len(part), etag, chunks)

    def stat(self, key: str) -> ObjectStat:
        content = self._content(key)
        return ObjectStat(len(content), hashlib.sha256(content).hexdigest())

    def delete(self, key: str) -> None:
        self._objects.pop(key, None)

    def keys(self, prefix: str) -> Iterator[str]:
        return iter(sorted(key for key in self._objects if key.startswith(prefix)))

    def _content(self, key: str) -> bytes:
        if key not in self._objects:
            raise ObjectMissing(key)
        return self._objects[key]
