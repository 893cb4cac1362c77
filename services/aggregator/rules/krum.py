"""Choosing updates by their distances from one another: Krum, Multi-Krum and Bulyan's first stage.

All is exact, so that ties are ties: the lowest client id wins.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import repeat

from schemas.ids import ClientId
from schemas.strategies import Bulyan, Krum, MultiKrum, Selection
from services.aggregator.rules.digits import UNIT_BITS
from services.aggregator.rules.gram import Gram
from services.aggregator.rules.refusals import NoUpdates, TooFewUpdates, TooManyUpdates
from services.aggregator.rules.weighting import MAX_COMPARED

Chooser = Krum | MultiKrum | Bulyan


@dataclass(frozen=True, slots=True)
class Distances:
    """`squares[i][j] * 2**exponent` is the square of the Euclidean distance of rows i and j."""

    exponent: int
    squares: tuple[tuple[int, ...], ...]

    def square(self, i: int, j: int) -> Fraction:
        return self.squares[i][j] * Fraction(2) ** self.exponent


def distances(grams: Iterable[Gram]) -> Distances:
    """From the inner products of all pieces of the same rows, each piece counted once."""
    gram = _merged(grams)
    exponent = min(*(2 * scale for scale in _scales(gram)), 0)
    own: list[int] = []  # products of the rows with themselves
    lower: list[list[int]] = []
    for row in _products(gram, exponent):
        own.append(row[-1])
        lower.append([row[-1] + other - 2 * product for other, product in zip(own, row, strict=True)])
    n = range(gram.rows)
    return Distances(exponent, tuple(tuple(lower[max(i, j)][min(i, j)] for j in n) for i in n))


def scores(far: Distances, f: int) -> list[int]:
    """The sum of squared distances to the max(1, n-f-2) nearest others, in units of 2**exponent."""
    n = len(far.squares)
    return [sum(near[: _neighbours(n, f)]) for near in _nearest_first(far)]


def krum_order(clients: Sequence[ClientId], far: Distances, f: int) -> list[int]:
    """The rows from the lowest score to the highest, of equal scores the lowest client id first."""
    found = scores(far, f)
    return sorted(range(len(clients)), key=lambda row: (found[row], clients[row]))


def choose(strategy: Chooser, clients: Sequence[ClientId], far: Distances) -> tuple[ClientId, ...]:
    """The clients whose updates are kept, sorted by id; row i of the distances belongs to client i."""
    n = len(clients)
    if n != len(far.squares):
        raise ValueError(f"{n} clients and {len(far.squares)} rows")
    if n < strategy.least_updates:
        raise TooFewUpdates(strategy.name, n, strategy.least_updates)
    if n > MAX_COMPARED:
        raise TooManyUpdates(strategy.name, n, MAX_COMPARED)
    match strategy:
        case Krum():
            rows = krum_order(clients, far, strategy.f)[:1]
        case MultiKrum():
            rows = krum_order(clients, far, strategy.f)[: strategy.k]
        case Bulyan(selection=Selection.SINGLE_PASS):
            rows = krum_order(clients, far, strategy.f)[: n - 2 * strategy.f]
        case Bulyan():
            rows = _one_by_one(clients, far, strategy.f)
    return tuple(sorted(clients[row] for row in rows))


def _merged(grams: Iterable[Gram]) -> Gram:
    """Two or more in a sum of its own: none of those given counts more than before."""
    found: Gram | None = None
    for number, gram in enumerate(grams):
        if found is None:
            found = gram
            continue
        if number == 1:
            first, found = found, found.empty()
            found.merge(first)
        found.merge(gram)
    if found is None:
        raise NoUpdates
    return found


def _scales(gram: Gram) -> list[int]:
    """Exponents of the units in which the rows' digits count."""
    return [exponent - UNIT_BITS for exponent in gram.exponents]


def _products(gram: Gram, exponent: int) -> Iterator[list[int]]:
    """Row by row the inner products with the rows up to itself, in units of 2**exponent."""
    scales = _scales(gram)
    integers = repeat(repeat(0)) if gram.integers is None else gram.integers.exact()
    for i, (row, others) in enumerate(zip(gram.floats.exact(), integers, strict=False)):
        shifts = (scales[i] + scale - exponent for scale in scales)
        yield [
            (product << shift) + (other << -exponent)
            for product, other, shift in zip(row, others, shifts, strict=False)
        ]


def _neighbours(n: int, f: int) -> int:
    return max(1, n - f - 2)


def _nearest_first(far: Distances) -> list[list[int]]:
    """Of each row the squared distances to all others, ascending."""
    return [sorted(row[:i] + row[i + 1 :]) for i, row in enumerate(far.squares)]


def _one_by_one(clients: Sequence[ClientId], far: Distances, f: int) -> list[int]:
    """n - 2f times the one that Krum chooses among those that are left."""
    near = _nearest_first(far)
    left = sorted(range(len(clients)), key=lambda row: clients[row])
    counted = _neighbours(len(left), f)
    found = [sum(each[:counted]) for each in near]
    chosen: list[int] = []
    while len(chosen) < len(clients) - 2 * f:
        best = min(left, key=lambda row: found[row])
        chosen.append(best)
        left.remove(best)
        before, counted = counted, _neighbours(len(left), f)
        for row in left:
            found[row] += _change(near[row], far.squares[row][best], before, counted)
    return chosen


def _change(near: list[int], gone: int, before: int, counted: int) -> int:
    """What the sum of the `before` nearest gains when one of all is gone and `counted` are to count."""
    place = bisect_left(near, gone)
    del near[place]
    kept = before - (place < before)
    return sum(near[kept:counted]) - sum(near[counted:kept]) - (gone if place < before else 0)
