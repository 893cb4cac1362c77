"""Neighbouring tensors of one dtype, worked on as if they were one."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from infra.weights.layout import Dtype, Layout


@dataclass(frozen=True, slots=True)
class Run:
    """Bytes `begin` to `end` of the data, all of one dtype."""

    dtype: Dtype
    begin: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.begin

    @property
    def elements(self) -> int:
        return self.size // self.dtype.itemsize

    def strips(self, size: int) -> Iterator[range]:
        """The run in pieces of `size` bytes, the last one shorter, counted from its begin."""
        return (range(at, min(at + size, self.size)) for at in range(0, self.size, size))


def runs(layout: Layout, span: range) -> tuple[Run, ...]:
    """What lies in this range of the data, in order: at most one run per dtype."""
    found = []
    for dtype, tensors in groupby(layout.tensors, key=lambda tensor: tensor.dtype):
        first, *others = tensors
        begin, end = max(first.begin, span.start), min((others or [first])[-1].end, span.stop)
        if begin < end:
            found.append(Run(dtype, begin, end))
    return tuple(found)
