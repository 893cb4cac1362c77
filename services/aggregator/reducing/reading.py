"""Reads what a shard needs, ahead of the arithmetic, and checks it on the way."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from infra.objects.errors import ObjectChanged, ObjectMissing
from infra.objects.store import CHUNK, Content
from infra.weights.refusals import DigestDiffers, WeightsTruncated
from schemas.refusal import Refusal
from schemas.weights import PlannedUpdate

Buffer = NDArray[np.uint8]
Open = Callable[[range], AbstractContextManager[Content]]
Fill = Callable[[memoryview], int]

_LOST = (ObjectMissing, ObjectChanged, DigestDiffers, WeightsTruncated)


class LostUpdate(Exception):
    """An accepted update cannot be read any more as it was accepted."""

    def __init__(self, update: PlannedUpdate, cause: Refusal) -> None:
        self.update = update
        super().__init__(str(cause))


@contextmanager
def blaming(update: PlannedUpdate) -> Iterator[None]:
    try:
        yield
    except _LOST as cause:
        raise LostUpdate(update, cause) from cause


class _Chunks:
    """Copies chunks into buffers."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = filter(None, chunks)
        self._rest = memoryview(b"")

    def __call__(self, view: memoryview) -> int:
        self._rest = self._rest or memoryview(next(self._chunks, b""))
        piece, self._rest = self._rest[: len(view)], self._rest[len(view) :]
        view[: len(piece)] = piece
        return len(piece)


def _nothing(view: memoryview) -> int:
    return 0


class Source:
    """The bytes of one file that a shard needs, read once from the first to the last.

    Several reads share a request as long as `keeps_open`.  With the last byte the digest is compared.
    """

    def __init__(
        self,
        opened: Open,
        where: Sequence[range],
        blame: Callable[[], AbstractContextManager[None]],
        digest: str | None = None,
        *,
        keeps_open: bool = False,
    ) -> None:
        self._open, self._blame, self._expected = opened, blame, digest
        self._left = deque(where)
        self._size = sum(map(len, where))
        self._taken = self._missing = 0
        self._keeps_open = keeps_open
        self._digest = blake3()
        self._request = ExitStack()
        self._fill: Fill = _nothing

    def read_into(self, buffer: Buffer) -> None:
        """The next bytes, as many as there is room for."""
        view, at = buffer.data, 0
        with self._blame():
            while at < len(view):
                if not self._missing:
                    self._ask(len(view) - at)
                taken = self._take(view[at : at + min(CHUNK, self._missing)])
                at += taken
            if self._taken == self._size:
                self.close()
                self._check()

    def close(self) -> None:
        self._request.close()

    def _take(self, view: memoryview) -> int:
        """Hashed while it is in the processor's cache."""
        taken = self._fill(view)
        if not taken:
            raise WeightsTruncated(self._taken, self._size)
        self._digest.update(view[:taken])
        self._taken += taken
        self._missing -= taken
        return taken

    def _ask(self, most: int) -> None:
        self.close()
        where = self._left.popleft()
        if not self._keeps_open and len(where) > most:
            self._left.appendleft(where[most:])
            where = where[:most]
        content = self._request.enter_context(self._open(where))
        if content.size != len(where):
            raise WeightsTruncated(self._taken + content.size, self._size)
        self._fill, self._missing = content.into or _Chunks(content), len(where)

    def _check(self) -> None:
        if self._expected not in {None, self._digest.hexdigest()}:
            raise DigestDiffers(self._digest.hexdigest(), str(self._expected))


@dataclass(frozen=True, slots=True)
class Load:
    """The next `size` bytes of a source."""

    source: Source
    size: int


class Ahead:
    """Does loads early, in threads, and hands them out in their order.

    At most `budget` bytes are loaded and not yet given back, unless a single load has more.
    """

    def __init__(self, loads: Iterable[Load], budget: int, pool: ThreadPoolExecutor) -> None:
        self._loads = iter(loads)
        self._coming = next(self._loads, None)
        self._budget, self._pool = budget, pool
        self._used = 0
        self._under_way: deque[tuple[Buffer, Future[None]]] = deque()
        self._last: dict[int, Future[None]] = {}
        self._spare: list[Buffer] = []

    def take(self) -> Buffer:
        """What the next load has brought; raises what it raised."""
        self._begin(at_least=1)
        buffer, done = self._under_way.popleft()
        done.result()
        return buffer

    def give_back(self, buffer: Buffer) -> None:
        """Nothing of it is read any more."""
        self._used -= len(buffer)
        whole = buffer if buffer.base is None else buffer.base
        assert isinstance(whole, np.ndarray)
        self._spare.append(whole)
        self._begin()

    def _begin(self, at_least: int = 0) -> None:
        while (load := self._coming) is not None:
            if self._used + load.size > self._budget and len(self._under_way) >= at_least:
                return
            self._coming = next(self._loads, None)
            self._used += load.size
            buffer = self._buffer(load.size)
            done = self._pool.submit(_load, load, buffer, self._last.get(id(load.source)))
            self._last[id(load.source)] = done
            self._under_way.append((buffer, done))

    def _buffer(self, size: int) -> Buffer:
        """A used one if it is not much too large, so that memory is neither returned nor asked for."""
        fitting = [each for each in self._spare if size <= len(each) <= 2 * size]
        self._spare = fitting[1:]
        return fitting[0][:size] if fitting else np.empty(size, np.uint8)


def _load(load: Load, buffer: Buffer, before: Future[None] | None) -> None:
    """After the load before of the same source, which has been begun earlier."""
    if before is not None:
        before.result()
    if load.size:
        load.source.read_into(buffer)


@contextmanager
def ahead(loads: Iterable[Load], sources: Sequence[Source], budget: int, threads: int) -> Iterator[Ahead]:
    """Ends with all requests closed and no thread left."""
    pool = ThreadPoolExecutor(threads, "reading")
    try:
        yield Ahead(loads, budget, pool)
    finally:
        pool.shutdown(cancel_futures=True)
        for source in sources:
            source.close()
