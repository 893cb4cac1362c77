"""Threads beside a stream of chunks: one reads it early, one hashes what goes by.

Both end with the `with` they are used in, whatever ends it; reading may then last until the chunk that is
being waited for is there, or the store's own time limit is over.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol

from infra.streams import Chunk

_DEPTH = 4  # chunks
_SMALL = 256 << 10  # bytes that are hashed sooner than a thread is started


@contextmanager
def ahead(chunks: Iterable[Chunk], size: int) -> Iterator[Iterator[Chunk]]:
    """The same chunks, read early by a thread of its own; what reading raises comes in its turn.

    What has so few bytes altogether that there is nothing to read early is read without one.
    """
    if size < _SMALL:
        yield iter(chunks)
        return
    pool = ThreadPoolExecutor(1, "ahead")
    try:
        yield _early(iter(chunks), pool)
    finally:
        pool.shutdown(cancel_futures=True)


class _Digest(Protocol):
    def update(self, data: Chunk, /) -> object: ...
    def hexdigest(self) -> str: ...


class Aside:
    """Brings a digest up to date in a thread of its own, at most a few chunks behind."""

    def __init__(self, digest: _Digest, pool: ThreadPoolExecutor) -> None:
        self._digest, self._pool = digest, pool
        self._behind: deque[Future[object]] = deque()

    def watch(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        for chunk in chunks:
            if len(chunk) < _SMALL:
                self._catch_up(0)
                self._digest.update(chunk)
            else:
                self._behind.append(self._pool.submit(self._digest.update, chunk))
            yield chunk
            self._catch_up(_DEPTH)

    def hexdigest(self) -> str:
        """Of all chunks that went by."""
        self._catch_up(0)
        return self._digest.hexdigest()

    def _catch_up(self, most: int) -> None:
        while len(self._behind) > most:
            self._behind.popleft().result()


@contextmanager
def aside(digest: _Digest) -> Iterator[Aside]:
    pool = ThreadPoolExecutor(1, "aside")
    try:
        yield Aside(digest, pool)
    finally:
        pool.shutdown(cancel_futures=True)


def _early(chunks: Iterator[Chunk], pool: ThreadPoolExecutor) -> Iterator[Chunk]:
    waiting = deque(pool.submit(next, chunks, None) for _ in range(_DEPTH))
    while (chunk := waiting.popleft().result()) is not None:
        waiting.append(pool.submit(next, chunks, None))
        yield chunk
