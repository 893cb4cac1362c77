"""Cuts a stream of chunks of any size into the pieces one needs."""

from collections.abc import Iterable, Iterator

Chunk = bytes | bytearray | memoryview


class ChunkStream:
    """Holds one chunk at a time; a piece that lies within it is not copied."""

    def __init__(self, chunks: Iterable[Chunk]) -> None:
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")
        self.taken = 0

    def take(self, size: int) -> memoryview:
        """The next `size` bytes, or fewer if the stream ends before."""
        if not self._rest:
            self._next()
        if len(self._rest) < size:
            piece = memoryview(self._gather(size))
        else:
            piece, self._rest = self._rest[:size], self._rest[size:]
        self.taken += len(piece)
        return piece

    def rest(self) -> Iterator[Chunk]:
        """What has not been taken, in chunks as they come.  Nothing can be taken afterwards."""
        if self._rest:
            yield self._rest
        yield from self._chunks

    def _gather(self, size: int) -> bytearray:
        gathered = bytearray()
        while self._rest and len(gathered) < size:
            missing = size - len(gathered)
            gathered += self._rest[:missing]
            self._rest = self._rest[missing:]
            if not self._rest:
                self._next()
        return gathered

    def _next(self) -> None:
        """An empty rest now means that the stream has ended."""
        for chunk in self._chunks:
            if chunk:
                self._rest = memoryview(chunk)
                return
