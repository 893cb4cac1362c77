"""Makes the next values of a run, and of the strategy's state beside it, from what was taken in."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.weights.arrays import NUMPY
from infra.weights.parts import FLOATS, slot_dtype
from schemas.strategies import SCAFFOLD, Bulyan, Custom, FedMedian, FedTrimmedAvg, Strategy
from schemas.words import Slot
from services.aggregator.reducing.folding import AllRows, ExactFold, FloatFold, Fold, strip_of, strips
from services.aggregator.reducing.recipe import Recipe, Treatment
from services.aggregator.reducing.windows import Run
from services.aggregator.rules.optimisers import Optimiser, server_step
from services.aggregator.rules.rank import median, trimmed_mean, window_mean
from services.aggregator.rules.refusals import ResultOutOfRange, RuleMisbehaved
from services.aggregator.rules.rounding import narrow

Values = NDArray[Any]
Float64 = NDArray[np.float64]
Made = tuple[Slot | None, Values]  # of a part of the state, or of the model


class Beside:
    """What there is of a run besides the updates: current values, and the state's; no state is zeros."""

    def __init__(self, run: Run, current: Values | None, state: Mapping[Slot, Values]) -> None:
        self._dtype, self._current, self._state = run.dtype, current, state

    def kept(self, part: slice) -> Values:
        assert self._current is not None
        return self._current[part]

    def current(self, part: slice) -> Float64:
        return self.kept(part).astype(np.float64)

    def slot(self, slot: Slot, part: slice) -> Values:
        if slot in self._state:
            return self._state[slot][part]
        return np.zeros(part.stop - part.start, NUMPY[slot_dtype(slot, self._dtype)])


def finished(recipe: Recipe, run: Run, fold: Fold | None, beside: Beside) -> Iterator[Made]:
    """Strip after strip; what nobody has sent has no fold, and stays as it is."""
    for part in strips(run.elements, strip_of(run)):
        try:
            with np.errstate(over="raise", invalid="raise", under="ignore"):
                made = (
                    _kept(recipe, run, beside, part)
                    if fold is None
                    else _made(recipe, run, fold, beside, part)
                )
        except FloatingPointError:
            raise ResultOutOfRange(run.dtype) from None
        yield from made


def _kept(recipe: Recipe, run: Run, beside: Beside, part: slice) -> list[Made]:
    if run.treatment is Treatment.BESIDE:
        return [(slot, beside.slot(slot, part)) for slot in recipe.slots]
    state = [(slot, beside.slot(slot, part)) for slot in _slots_of_steps(recipe, run)]
    return [(None, beside.kept(part)), *state]


def _made(recipe: Recipe, run: Run, fold: Fold, beside: Beside, part: slice) -> list[Made]:
    match fold:
        case ExactFold():
            return [(None, fold.mean(part))]
        case AllRows() if run.treatment is Treatment.CUSTOM:
            return [(None, narrow(_custom(recipe, run, fold, beside.current(part), part), run.dtype))]
        case AllRows():
            ranked = _ranked(recipe.strategy, fold.leant(part))
            return [(None, narrow(ranked, run.dtype) if run.dtype in FLOATS else ranked)]
        case FloatFold():
            return _from_sums(recipe, run, fold.mean(part), beside, part)


def _from_sums(recipe: Recipe, run: Run, mean: Float64, beside: Beside, part: slice) -> list[Made]:
    slots = _slots_of_steps(recipe, run)
    state: list[Made] = [(slot, beside.slot(slot, part)) for slot in slots]
    match run.treatment, recipe.strategy:
        case Treatment.BESIDE, SCAFFOLD():
            (slot,) = recipe.slots
            return [(slot, narrow(beside.slot(slot, part) + mean, run.dtype))]
        case Treatment.BESIDE, _:
            return [(slot, narrow(mean, run.dtype)) for slot in recipe.slots]
        case Treatment.MOVED, SCAFFOLD(lr=lr):
            return [(None, narrow(beside.current(part) + lr * mean, run.dtype))]
        case Treatment.FAIR, _:
            return [(None, narrow(beside.current(part) + mean, run.dtype))]
        case Treatment.STEPPED, strategy:
            assert isinstance(strategy, Optimiser)
            w = beside.current(part)
            before = {slot: beside.slot(slot, part) for slot in slots}
            stepped, after = server_step(strategy, recipe.step, w, mean - w, before)
            return [(None, narrow(stepped, run.dtype)), *((slot, after[slot]) for slot in slots)]
    return [(None, narrow(mean, run.dtype)), *state]


def _slots_of_steps(recipe: Recipe, run: Run) -> tuple[Slot, ...]:
    """An optimiser's, for all floats: of buffers they are zeros."""
    if isinstance(recipe.strategy, Optimiser) and run.dtype in FLOATS:
        return recipe.slots
    return ()


def _ranked(strategy: Strategy, rows: list[Values]) -> Values:
    match strategy:
        case FedMedian():
            return median(rows)
        case FedTrimmedAvg():
            return trimmed_mean(rows, strategy.cut(len(rows)))
        case Bulyan():
            return window_mean(rows, max(1, len(rows) - 2 * strategy.f))
    raise TypeError(f"{strategy.name} does not order values")


def _custom(recipe: Recipe, run: Run, fold: AllRows, current: Float64, part: slice) -> Float64:
    assert recipe.custom is not None
    assert isinstance(recipe.strategy, Custom)
    function, options = recipe.custom
    rows = np.stack(fold.leant(part, to_float64=True))
    weights = np.array([recipe.weights[sender] for sender in run.senders], np.float64)
    try:
        with np.errstate(all="ignore"):
            made = function(current, rows, weights, options)
    except Exception as error:  # whatever a function of the operator's may raise
        raise RuleMisbehaved(recipe.strategy.rule, f"raises {type(error).__name__}: {error}") from error
    if not isinstance(made, np.ndarray) or made.dtype != np.float64 or made.shape != current.shape:
        raise RuleMisbehaved(recipe.strategy.rule, "does not give a float64 array of the shape of `current`")
    if not np.isfinite(made).all():
        raise RuleMisbehaved(recipe.strategy.rule, "gives a NaN or an infinity")
    return made
