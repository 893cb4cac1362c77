"""FedAvg of one shard: the mean of the same byte range of all updates, weighted by their examples."""

from collections.abc import Iterable, Iterator

import numpy as np

from infra.streams import Chunk, ChunkStream
from infra.weights.arrays import NUMPY
from infra.weights.layout import Layout
from infra.weights.refusals import WeightsPadded, WeightsTruncated
from services.aggregator.means import mean_of
from services.aggregator.runs import runs

WEIGHT_CAP = 2**31 - 1
TOTAL_CAP = 2**53 - 1
STRIP = 1 << 20  # bytes of an update that are widened at once: they stay in cache


class ShardMean:
    """The running mean of one byte range of the data.

    Memory: 8 bytes per float or boolean, 24 per integer, and one chunk of one update, however many updates
    there are.  Add the updates sorted by client: the order decides the last bits of the floats.
    """

    def __init__(self, layout: Layout, span: range) -> None:
        self._span = span
        self._runs = runs(layout, span)
        self._means = [mean_of(run.dtype, run.elements) for run in self._runs]
        self._total = 0

    def add(self, weight: int, chunks: Iterable[Chunk]) -> None:
        """Count one update, given its bytes of this range.  After an exception the mean is of no use."""
        if not 1 <= weight <= WEIGHT_CAP or self._total + weight > TOTAL_CAP:
            raise ValueError(f"a weight of {weight} after {self._total} is out of range")
        stream = ChunkStream(chunks)
        for run, mean in zip(self._runs, self._means, strict=True):
            for strip in run.strips(STRIP):
                piece = stream.take(len(strip))
                if len(piece) < len(strip):
                    raise WeightsTruncated(stream.taken, len(self._span))
                mean.add(weight, np.frombuffer(piece, NUMPY[run.dtype]), strip.start // run.dtype.itemsize)
        if stream.take(1):
            raise WeightsPadded(stream.taken, len(self._span))
        self._total += weight

    def result(self) -> Iterator[bytes]:
        """The mean's bytes, as many as the range has."""
        if not self._total:
            raise ValueError("the mean of no updates")
        for run, mean in zip(self._runs, self._means, strict=True):
            for strip in run.strips(STRIP):
                size = run.dtype.itemsize
                yield mean.result(slice(strip.start // size, strip.stop // size), self._total).tobytes()


def fedavg(layout: Layout, span: range, updates: Iterable[tuple[int, Iterable[Chunk]]]) -> Iterator[bytes]:
    """The weighted mean of this range over all updates, given as their weights and their bytes of it."""
    mean = ShardMean(layout, span)
    for weight, chunks in updates:
        mean.add(weight, chunks)
    return mean.result()
