"""Looks at an update's numbers, block by block: are they sane, how large are they, how far have they moved.

Sums of squares are kept one per place in a block, and added up exactly in the end: elementwise operations and
`fsum` give the same bits whatever chunks the file came in, and whatever the processor can do.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from infra.streams import ChunkStream
from infra.weights.arrays import NUMPY
from infra.weights.layout import Dtype, Layout
from infra.weights.parts import FLOATS
from infra.weights.refusals import (
    MAGNITUDE_LIMIT,
    DeltaTooLarge,
    NotBoolean,
    NotFinite,
    ValueTooLarge,
    WeightsTruncated,
)
from schemas.words import UpdateKind
from services.aggregator.inspecting.spans import Stretch

Doubles = NDArray[np.float64]

BLOCK = 1 << 14  # elements: what is at work at a time stays in the second-level cache

_TOO_LARGE = {  # the least size that is not rounded to a number of the dtype, or that is too large for us
    Dtype.F64: MAGNITUDE_LIMIT,
    Dtype.F32: 2.0**128 - 2.0**103,
    Dtype.BF16: 2.0**128 - 2.0**119,
    Dtype.F16: 2.0**16 - 2.0**4,
}


class ModelNotUsable(Exception):
    """A fault: the current model is not as long as it must be, or has numbers that no update could have."""


@dataclass(frozen=True, slots=True)
class Norms:
    """Euclidean norms of the numbers as they were sent, and of their difference from the model."""

    norm: float
    distance: float | None


class Squares:
    """Sums of squares, one per place in a block."""

    def __init__(self) -> None:
        self._sums = np.zeros(BLOCK)
        self._used = 0

    def add(self, squares: Doubles) -> None:
        self._sums[: len(squares)] += squares
        self._used = max(self._used, len(squares))

    def root(self) -> float:
        return math.sqrt(math.fsum(self._sums[: self._used].tolist()))


class Beside:
    """The current model's numbers that an update's numbers stand for, in the order of the update."""

    def __init__(self, chunks: ChunkStream) -> None:
        self._chunks = chunks
        self._wide = np.empty(BLOCK)

    def next(self, dtype: Dtype, count: int) -> Doubles:
        """Good until the next call; the caller may write into it."""
        block = self._chunks.take(count * dtype.itemsize)
        if len(block) < count * dtype.itemsize:
            raise ModelNotUsable(f"the current model ends {count} numbers of {dtype} too early")
        wide = self._wide[:count]
        np.copyto(wide, np.frombuffer(block, NUMPY[dtype]))
        return wide


class Numbers:
    """Of one file with this layout.  Without `model` nothing is known about distances.

    For deltas the model must be there: added to it they must still be numbers of their dtype.
    """

    def __init__(self, layout: Layout, kind: UpdateKind, model: Beside | None) -> None:
        self._layout, self._kind, self._model = layout, kind, model
        self._wide = np.empty(BLOCK)
        self._norm, self._distance = Squares(), Squares()

    def look_through(self, stream: ChunkStream, stretches: Iterable[Stretch]) -> Norms:
        """Of the file's data, whole: the first number that is not sane is refused, and its place named."""
        with np.errstate(all="ignore"):
            for stretch in stretches:
                for where in stretch.blocks(BLOCK):
                    block = stream.take(len(where))
                    if len(block) < len(where):
                        raise WeightsTruncated(self._layout.header_size + stream.taken, self._layout.size)
                    self._look_at(np.frombuffer(block, NUMPY[stretch.dtype]), stretch, where.start)
        return self._norms()

    def _norms(self) -> Norms:
        norm = self._norm.root()
        if self._model is None or self._kind is UpdateKind.DELTA:
            return Norms(norm, None if self._model is None else norm)
        distance = self._distance.root()
        if not math.isfinite(distance):
            raise ModelNotUsable("the current model has numbers that no update could have")
        return Norms(norm, distance)

    def _look_at(self, values: NDArray[Any], stretch: Stretch, begin: int) -> None:
        if stretch.dtype in FLOATS:
            self._floats(values, stretch, begin)
        elif stretch.dtype == Dtype.BOOL:
            self._booleans(values.view(np.uint8), begin)

    def _floats(self, values: NDArray[Any], stretch: Stretch, begin: int) -> None:
        wide = self._wide[: len(values)]
        np.copyto(wide, values)
        moved = None
        if self._model is not None and stretch.counts:
            moved = self._model.next(stretch.dtype, len(values))
            (np.add if self._kind is UpdateKind.DELTA else np.subtract)(wide, moved, out=moved)
        squares = np.multiply(wide, wide, out=wide)
        if not squares.max() < MAGNITUDE_LIMIT**2:  # so also for NaN
            self._refuse(values, begin)
        if stretch.counts:
            self._norm.add(squares)
        if moved is not None:
            self._moved(moved, stretch.dtype, begin)

    def _moved(self, moved: Doubles, dtype: Dtype, begin: int) -> None:
        """`moved` is the difference from the model or, for a delta, the sum with it."""
        if self._kind is UpdateKind.WEIGHTS:
            self._distance.add(np.multiply(moved, moved, out=moved))
            return
        is_sane = np.abs(moved, out=moved) < _TOO_LARGE[dtype]
        if not is_sane.all():
            raise DeltaTooLarge(*self._place(begin + int(np.argmin(is_sane)) * dtype.itemsize))

    def _refuse(self, values: NDArray[Any], begin: int) -> NoReturn:
        sizes = np.abs(values.astype(np.float64))
        bad = int(np.argmin(sizes < MAGNITUDE_LIMIT))
        refusal = ValueTooLarge if np.isfinite(sizes[bad]) else NotFinite
        raise refusal(*self._place(begin + bad * values.itemsize))

    def _booleans(self, values: NDArray[np.uint8], begin: int) -> None:
        if values.max() > 1:
            raise NotBoolean(*self._place(begin + int(np.argmax(values > 1))))

    def _place(self, offset: int) -> tuple[str, int]:
        """The tensor that this byte of the data belongs to, and the element's flat index in it."""
        tensors = self._layout.tensors
        tensor = tensors[bisect_right(tensors, offset, key=lambda tensor: tensor.begin) - 1]
        return tensor.name, (offset - tensor.begin) // tensor.dtype.itemsize
