"""Checks one update while it streams by, and notes what later steps need to know about it."""

import hashlib
import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from infra.streams import Chunk, ChunkStream
from infra.weights.arrays import NUMPY
from infra.weights.compare import require_same_header
from infra.weights.header import MAX_HEADER, PREFIX_SIZE, header_size, parse_header
from infra.weights.layout import Dtype, Layout, shards
from infra.weights.refusals import (
    DigestDiffers,
    NotBoolean,
    NotFinite,
    ValueTooLarge,
    WeightsPadded,
    WeightsTruncated,
)
from services.aggregator.means import FLOATS
from services.aggregator.runs import Run, runs

MAGNITUDE_LIMIT = 2.0**480  # so that neither a sum of squares nor a weighted sum can overflow
_BLOCK = 64 << 10


@dataclass(frozen=True)
class Inspection:
    """What an accepted update looks like.

    `norm` is the Euclidean norm of all floating-point numbers; `digests` has the blake3 of each shard.
    """

    size: int
    sha256: str
    norm: float
    digests: tuple[str, ...]


def inspect(chunks: Iterable[Chunk], layout: Layout, sha256: str, shard_bytes: int) -> Inspection:
    """Read the whole file once, holding one chunk, and refuse it unless it is a sane update of this layout.

    The same file gives the same figures however it is cut into chunks.
    """
    digests = _Digests(layout, shard_bytes)
    stream = ChunkStream(digests.watch(chunks))
    _check_header(stream, layout)
    squares = [_check_run(stream, run, layout) for run in runs(layout, range(layout.data_size))]
    if stream.take(1):
        raise WeightsPadded(stream.taken, layout.size)
    if digests.of_file() != sha256:
        raise DigestDiffers(digests.of_file(), sha256)
    norm = math.sqrt(math.fsum(square for run in squares for square in run))
    return Inspection(layout.size, sha256, norm, digests.of_shards())


def _check_header(stream: ChunkStream, layout: Layout) -> None:
    prefix = bytes(stream.take(PREFIX_SIZE))
    size = header_size(prefix, max(MAX_HEADER, layout.header_size))
    header = prefix + stream.take(size - PREFIX_SIZE)
    if len(header) < size:
        raise WeightsTruncated(len(header), layout.size)
    if header != layout.header:
        require_same_header(parse_header(header), layout)


def _check_run(stream: ChunkStream, run: Run, layout: Layout) -> list[float]:
    """Sums of squares, one per place in a block: elementwise sums do not depend on any library's order."""
    sums = np.zeros(_BLOCK // run.dtype.itemsize)
    for strip in run.strips(_BLOCK):
        block = stream.take(len(strip))
        if len(block) < len(strip):
            raise WeightsTruncated(stream.taken, layout.size)
        values = np.frombuffer(block, NUMPY[run.dtype])
        if run.dtype in FLOATS:
            sums[: len(values)] += _squares(values, run.begin + strip.start, layout)
        elif run.dtype == Dtype.BOOL:
            _check_booleans(values.view(np.uint8), run.begin + strip.start, layout)
    return sums.tolist() if run.dtype in FLOATS else []


def _squares(values: NDArray[Any], begin: int, layout: Layout) -> NDArray[np.float64]:
    with np.errstate(all="ignore"):
        wide = values.astype(np.float64)
        np.multiply(wide, wide, out=wide)
        if wide.max() < MAGNITUDE_LIMIT**2:  # false for NaN
            return wide
        sizes = np.abs(values.astype(np.float64))
    bad = int(np.argmin(sizes < MAGNITUDE_LIMIT))
    refusal = ValueTooLarge if np.isfinite(sizes[bad]) else NotFinite
    raise refusal(*_place(begin + bad * values.itemsize, layout))


def _check_booleans(values: NDArray[np.uint8], begin: int, layout: Layout) -> None:
    if values.max() > 1:
        raise NotBoolean(*_place(begin + int(np.argmax(values > 1)), layout))


def _place(offset: int, layout: Layout) -> tuple[str, int]:
    """The tensor that this byte of the data belongs to, and the element's flat index in it."""
    tensor = layout.tensors[bisect_right(layout.tensors, offset, key=lambda tensor: tensor.begin) - 1]
    return tensor.name, (offset - tensor.begin) // tensor.dtype.itemsize


class _Digests:
    """sha256 of the file and blake3 of its parts: the header, then each shard."""

    def __init__(self, layout: Layout, shard_bytes: int) -> None:
        cut = shards(layout.data_size, shard_bytes)
        self._file = hashlib.sha256()
        self._ends = [layout.header_size, *(layout.header_size + shard.stop for shard in cut)]
        self._parts = [blake3() for _ in self._ends]
        self._part = 0
        self._position = 0

    def watch(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        for chunk in chunks:
            self._file.update(chunk)
            self._update_parts(memoryview(chunk))
            yield chunk

    def of_file(self) -> str:
        return self._file.hexdigest()

    def of_shards(self) -> tuple[str, ...]:
        return tuple(part.hexdigest() for part in self._parts[1:])

    def _update_parts(self, chunk: memoryview) -> None:
        while chunk and self._part < len(self._ends):
            piece = chunk[: self._ends[self._part] - self._position]
            self._parts[self._part].update(piece)
            self._position += len(piece)
            self._part += self._position == self._ends[self._part]
            chunk = chunk[len(piece) :]
