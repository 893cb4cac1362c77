"""Sorting networks: which minima and maxima of whole rows bring the wanted ranks into order.

Batcher's merge exchange (Knuth, The Art of Computer Programming 3, 5.2.2, algorithm M) sorts any number of
rows; of its comparators only those are kept, and only the halves of them, that the wanted ranks depend on.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple


class Operation(NamedTuple):
    """Place `out` becomes the minimum or the maximum of places `a` and `b`, elementwise."""

    is_minimum: bool
    a: int
    b: int
    out: int


@dataclass(frozen=True, slots=True)
class Network:
    """Places 0 to n-1 are the rows given, which are read only; n to n+buffers-1 are for intermediate rows.

    After all operations, in this order, `results` are the places of the wanted ranks, ascending.
    """

    operations: tuple[Operation, ...]
    results: tuple[int, ...]
    buffers: int


@lru_cache(maxsize=64)
def network(rows: int, first: int, last: int) -> Network:
    """For the ranks `first` to `last` of so many rows; rank 0 is the lowest."""
    return _Placing(rows).placed(_needed(rows, first, last), range(first, last + 1))


class _Comparator(NamedTuple):
    low: int
    high: int
    needs_low: bool
    needs_high: bool


def _needed(rows: int, first: int, last: int) -> list[_Comparator]:
    """The comparators that the wanted ranks depend on, seen from the end."""
    live = set(range(first, last + 1))
    kept = []
    for low, high in reversed(list(_merge_exchange(rows))):
        if low in live or high in live:
            kept.append(_Comparator(low, high, low in live, high in live))
            live |= {low, high}
    return kept[::-1]


def _merge_exchange(rows: int) -> Iterator[tuple[int, int]]:
    top = 1 << (rows - 1).bit_length() >> 1
    p = top
    while p:
        q, r, d = top, 0, p
        while d:
            yield from ((i, i + d) for i in range(rows - d) if i & p == r)
            d, q, r = q - p, q >> 1, p
        p >>= 1


class _Placing:
    """Gives each intermediate row a buffer, and a buffer that nobody reads any more to the next one."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._place = list(range(rows))  # of each line of the network
        self._free: list[int] = []
        self._buffers = 0

    def placed(self, comparators: list[_Comparator], ranks: range) -> Network:
        operations = [operation for each in comparators for operation in self._operations(each)]
        return Network(tuple(operations), tuple(self._place[rank] for rank in ranks), self._buffers)

    def _operations(self, each: _Comparator) -> Iterator[Operation]:
        a, b = self._place[each.low], self._place[each.high]
        own = [place for place in (b, a) if place >= self._rows]
        if each.needs_low:
            self._place[each.low] = own.pop() if own and not each.needs_high else self._fresh()
            yield Operation(True, a, b, self._place[each.low])
        if each.needs_high:
            self._place[each.high] = own.pop() if own else self._fresh()
            yield Operation(False, a, b, self._place[each.high])
        self._free += own

    def _fresh(self) -> int:
        if not self._free:
            self._free.append(self._rows + self._buffers)
            self._buffers += 1
        return self._free.pop()
