"""Takes in the updates of one run, a few at a time or all at once, for what the strategy makes of them."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.weights.layout import Dtype
from infra.weights.parts import FLOATS
from services.aggregator.reducing.recipe import Recipe, Treatment
from services.aggregator.reducing.windows import Run
from services.aggregator.rules.means import FloatSum, IntegerMean, Majority

Values = NDArray[Any]
Float64 = NDArray[np.float64]
Rows = Mapping[int, Values]  # by the sender's place among the recipe's updates

ALL_AT_ONCE = frozenset({Treatment.RANKED, Treatment.CUSTOM, Treatment.COMPARED})
STRIP = 1 << 15  # elements that are worked on at once: they stay in a core's cache


_ROWS = 8 << 20  # bytes of float64 rows that are made at once
_LONGEST = 1 << 17


def strip_of(run: Run) -> int:
    """Elements of a run that are worked on at once."""
    if run.treatment in ALL_AT_ONCE:
        return max(1, min(_LONGEST, _ROWS // (8 * max(1, len(run.senders)))))
    return STRIP


def strips(elements: int, size: int = STRIP) -> Iterator[slice]:
    return (slice(at, min(at + size, elements)) for at in range(0, elements, size))


class Lean:
    """Turns what a client has sent into what is combined, in float64.

    With the clip scale s that is u' = w + s (u - w), or s (u - w) where differences are combined; u itself
    if s is 1.  A delta is u - w.
    """

    def __init__(self, recipe: Recipe, treatment: Treatment) -> None:
        self._of_differences = treatment in {Treatment.MOVED, Treatment.FAIR} or (
            treatment is Treatment.COMPARED and recipe.compares_differences
        )
        self._is_delta = recipe.is_delta and treatment is not Treatment.BESIDE
        is_scaled = treatment not in {Treatment.FAIR, Treatment.BESIDE}  # a fair factor has the scale in it
        self._scales = recipe.scales if is_scaled else (1.0,) * len(recipe.updates)
        self._is_as_sent = self._is_delta == self._of_differences

    def is_plain(self, sender: int) -> bool:
        """Whether it stays as it is."""
        return self._is_as_sent and self._scales[sender] == 1

    def into(self, out: Float64, row: Values, current: Float64 | None, sender: int) -> Float64:
        np.copyto(out, row)
        scale = self._scales[sender]
        if self._is_as_sent and scale == 1:
            return out
        if not self._is_delta:
            assert current is not None
            out -= current
        if scale != 1:
            out *= scale
        if not self._of_differences:
            assert current is not None
            out += current
        return out


class FloatFold:
    """sum(factor_k * what client k's values are turned into)."""

    def __init__(self, recipe: Recipe, run: Run) -> None:
        self._lean = Lean(recipe, run.treatment)
        is_fair = run.treatment is Treatment.FAIR
        self._factors = [factor for factor, _ in recipe.fair] if is_fair else [*map(float, recipe.weights)]
        divisors = [h for _, h in recipe.fair] if is_fair else recipe.weights
        self._divisor = float(sum(divisors[sender] for sender in run.senders))
        self._sum = FloatSum(run.elements)
        self._wide, self._current = np.empty((2, min(run.elements, STRIP)))
        self._elements = run.elements

    def add(self, rows: Rows, current: Values | None) -> None:
        for part in strips(self._elements):
            beside = None
            if current is not None:
                beside = self._current[: part.stop - part.start]
                np.copyto(beside, current[part])
            for sender, row in rows.items():
                wide = self._wide[: part.stop - part.start]
                self._lean.into(wide, row[part], beside, sender)
                self._sum.add(self._factors[sender], wide, part.start)

    def mean(self, part: slice) -> Float64:
        return self._sum.over(self._divisor, part)


class ExactFold:
    """Integers and booleans: always their weighted mean, never clipped."""

    def __init__(self, recipe: Recipe, run: Run) -> None:
        self._recipe, self._elements = recipe, run.elements
        self._total = sum(recipe.weights[sender] for sender in run.senders)
        is_bool = run.dtype == Dtype.BOOL
        self._mean = Majority(run.elements) if is_bool else IntegerMean(run.dtype, run.elements)

    def add(self, rows: Rows, current: Values | None) -> None:
        for part in strips(self._elements):
            for sender, row in rows.items():
                values = row[part] if current is None else whole_numbers(row[part], current[part])
                self._mean.add(self._recipe.weights[sender], values, part.start)

    def mean(self, part: slice) -> Values:
        return self._mean.result(part, self._total)


class AllRows:
    """Keeps the rows, for rules that need all of a place's values at once."""

    def __init__(self, recipe: Recipe, run: Run) -> None:
        self._recipe, self._is_float = recipe, run.dtype in FLOATS
        self._lean = Lean(recipe, run.treatment)
        self._rows: Rows = {}
        self._current: Values | None = None

    def add(self, rows: Rows, current: Values | None) -> None:
        self._rows, self._current = rows, current

    def leant(self, part: slice, *, to_float64: bool = False) -> list[Values]:
        """What is combined: of one dtype, the run's if nothing had to be computed."""
        rows = {sender: row[part] for sender, row in self._rows.items()}
        current = None if self._current is None else self._current[part]
        if not self._is_float:
            return [self._whole(row, current) for row in rows.values()]
        if not to_float64 and all(map(self._lean.is_plain, rows)):
            return list(rows.values())
        beside = None if current is None else current.astype(np.float64)
        return [self._lean.into(np.empty(len(row)), row, beside, sender) for sender, row in rows.items()]

    def _whole(self, row: Values, current: Values | None) -> Values:
        return row if not self._recipe.is_delta or current is None else whole_numbers(row, current)


Fold = FloatFold | ExactFold | AllRows


def fold_of(recipe: Recipe, run: Run) -> Fold:
    if run.treatment in ALL_AT_ONCE:
        return AllRows(recipe, run)
    return (FloatFold if run.dtype in FLOATS else ExactFold)(recipe, run)


def whole_numbers(delta: Values, current: Values) -> Values:
    """w + d modulo 2**bits; a boolean is turned round by a delta of true."""
    return current ^ delta if current.dtype == np.bool_ else current + delta
