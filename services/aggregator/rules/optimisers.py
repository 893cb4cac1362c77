"""Optimisers of the server: from the current weights `w` and the mean difference `D` to the next weights.

Every element is computed on its own, in float64, each operation one rounding, in the order in which the
formulas are written here, from left to right.  Factors that are the same for all elements are rounded once.
"""

from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from schemas.strategies import FedAdagrad, FedAdam, FedAvgM, FedYogi
from schemas.words import Slot
from services.aggregator.rules.refusals import StepOutOfRange
from services.aggregator.rules.weighting import EXACT

Float64 = NDArray[np.float64]
State = Mapping[Slot, Float64]
Step = tuple[Float64, dict[Slot, Float64]]

Optimiser = FedAvgM | FedAdagrad | FedAdam | FedYogi


def server_step(strategy: Optimiser, t: int, w: Float64, difference: Float64, state: State) -> Step:
    """The next weights and the next state of these elements; `t` is 1 in the first round.

    `state` has an array for each of the strategy's slots, zeros in the first round.  Nothing given is
    changed.  Memory: at most three new arrays beside the results; it is fastest with some 8,192 elements.
    """
    try:
        with np.errstate(over="raise", invalid="raise", divide="raise", under="ignore"):
            return _step(strategy, t, w, difference, state)
    except FloatingPointError:
        raise StepOutOfRange(strategy.name) from None


def _step(strategy: Optimiser, t: int, w: Float64, d: Float64, state: State) -> Step:
    match strategy:
        case FedAvgM():
            return _momentum(strategy, w, d, state[Slot.MOMENTUM])
        case FedAdagrad():
            v = _square(d)
            v += state[Slot.V]
            return _moved(w, strategy.eta, d, v, strategy.tau), {Slot.V: v}
        case FedAdam():
            m, v = _decayed(strategy.b1, state[Slot.M], d), _decayed(strategy.b2, state[Slot.V], _square(d))
            return _moved(w, adam_rate(strategy, t), m, v, strategy.tau), {Slot.M: m, Slot.V: v}
        case FedYogi():
            m, v = _decayed(strategy.b1, state[Slot.M], d), _yogi(strategy.b2, state[Slot.V], _square(d))
            return _moved(w, strategy.eta, m, v, strategy.tau), {Slot.M: m, Slot.V: v}


@lru_cache(maxsize=16)
def adam_rate(strategy: FedAdam, t: int) -> float:
    """eta * sqrt(1 - b2^(t+1)) / (1 - b1^(t+1)), rounded once."""
    root = EXACT.sqrt(_left(strategy.b2, t + 1))
    return float(EXACT.divide(EXACT.multiply(Decimal(strategy.eta), root), _left(strategy.b1, t + 1)))


def _left(base: float, exponent: int) -> Decimal:
    return EXACT.subtract(Decimal(1), EXACT.power(Decimal(base), exponent))


def _momentum(strategy: FedAvgM, w: Float64, d: Float64, before: Float64) -> Step:
    """v' = momentum * v - D; w - server_lr * v', with Nesterov w - server_lr * (momentum * v' - D)."""
    v = before * strategy.momentum
    v -= d
    if strategy.nesterov:
        step = v * strategy.momentum
        step -= d
        step *= strategy.server_lr
    else:
        step = v * strategy.server_lr
    return np.subtract(w, step, out=step), {Slot.MOMENTUM: v}


def _square(d: Float64) -> Float64:
    return d * d


def _decayed(b: float, before: Float64, new: Float64) -> Float64:
    """b * before + (1 - b) * new."""
    kept = before * b
    kept += new * (1.0 - b)
    return kept


def _yogi(b: float, before: Float64, square: Float64) -> Float64:
    """v - (1 - b) * D^2 * sign(v - D^2)."""
    excess = before - square
    square *= 1.0 - b
    np.copysign(square, excess, out=square)
    square *= excess != 0.0
    return np.subtract(before, square, out=square)


def _moved(w: Float64, rate: float, m: Float64, v: Float64, tau: float) -> Float64:
    """w + rate * m / (sqrt(v) + tau)."""
    below = np.sqrt(v)
    below += tau
    step = m * rate
    step /= below
    return np.add(w, step, out=step)
