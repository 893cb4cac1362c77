"""Choosing updates by their distances from one another: Krum, Multi-Krum and Bulyan's first stage.

All is exact, so that ties are ties: the lowest client id wins.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from schemas.ids import ClientId
from schemas.strategies import Bulyan, Krum, MultiKrum, Selection
from services.aggregator.digits import UNIT_BITS
from services.aggregator.gram import Gram
from services.aggregator.refusals import NoUpdates, TooFewUpdates, TooManyUpdates
from services.aggregator.weighting import MAX_COMPARED

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
    whole = _merged(grams)
    products, exponent = _products(whole)
    n = len(products)
    lower = [[products[i][i] + products[j][j] - 2 * products[i][j] for j in range(i + 1)] for i in range(n)]
    return Distances(exponent, tuple(tuple(lower[max(i, j)][min(i, j)] for j in range(n)) for i in range(n)))


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
    """A sum of its own: none of those given is changed but in how its sums are written."""
    whole: Gram | None = None
    for gram in grams:
        if whole is None:
            whole = gram.empty()
        whole.merge(gram)
    if whole is None:
        raise NoUpdates
    return whole


def _products(gram: Gram) -> tuple[list[list[int]], int]:
    """Inner products of the rows 0 to i with row i, all in units of one power of two."""
    scales = [exponent - UNIT_BITS for exponent in gram.exponents]
    exponent = min(2 * min(scales), 0)
    found = [
        [product << (scales[i] + scales[j] - exponent) for j, product in enumerate(row)]
        for i, row in enumerate(gram.floats.exact())
    ]
    if gram.integers is not None:
        for row, others in zip(found, gram.integers.exact(), strict=True):
            row[:] = [product + (other << -exponent) for product, other in zip(row, others, strict=True)]
    return found, exponent


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
