from decimal import Decimal, localcontext
from math import copysign, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from schemas.strategies import FedAdagrad, FedAdam, FedAvgM, FedYogi
from schemas.words import Slot
from services.aggregator.rules.optimisers import Optimiser, adam_rate, server_step
from services.aggregator.rules.refusals import StepOutOfRange

Float64 = NDArray[np.float64]
State = dict[Slot, float]

rates = st.floats(0, 1, exclude_max=True)
sizes = st.floats(1e-9, 10)
numbers = st.floats(-1e6, 1e6)
optimisers: st.SearchStrategy[Optimiser] = st.one_of(
    st.builds(FedAvgM, server_lr=sizes, momentum=rates, nesterov=st.booleans()),
    st.builds(FedAdagrad, eta=sizes, tau=sizes),
    st.builds(FedAdam, eta=sizes, b1=rates, b2=rates, tau=sizes),
    st.builds(FedYogi, eta=sizes, b1=rates, b2=rates, tau=sizes),
)


def expected(strategy: Optimiser, t: int, w: float, d: float, state: State) -> tuple[float, State]:
    """The formulas written down for one number in Python's own floats."""
    match strategy:
        case FedAvgM(server_lr=lr, momentum=momentum, nesterov=nesterov):
            velocity = momentum * state[Slot.MOMENTUM] + -d
            step = -d + momentum * velocity if nesterov else velocity
            return w - lr * step, {Slot.MOMENTUM: velocity}
        case FedAdagrad(eta=eta, tau=tau):
            v = state[Slot.V] + d * d
            return w + eta * d / (sqrt(v) + tau), {Slot.V: v}
        case FedAdam(b1=b1, b2=b2, tau=tau):
            m = b1 * state[Slot.M] + (1 - b1) * d
            v = b2 * state[Slot.V] + (1 - b2) * (d * d)
            return w + adam_rate(strategy, t) * m / (sqrt(v) + tau), {Slot.M: m, Slot.V: v}
        case FedYogi(eta=eta, b1=b1, b2=b2, tau=tau):
            before, square = state[Slot.V], d * d
            sign = copysign(1, before - square) if before != square else 0.0
            v = before - (1 - b2) * square * sign
            m = b1 * state[Slot.M] + (1 - b1) * d
            return w + eta * m / (sqrt(v) + tau), {Slot.M: m, Slot.V: v}


def zeros(strategy: Optimiser, size: int) -> dict[Slot, Float64]:
    return {slot: np.zeros(size) for slot in strategy.slots}


@given(optimisers, st.lists(st.lists(numbers, min_size=3, max_size=3), min_size=1, max_size=5))
def test_every_element_goes_the_way_of_the_formula_bit_by_bit_over_many_rounds(
    strategy: Optimiser, rounds: list[list[float]]
) -> None:
    w, state = np.array([1.0, -2.0, 0.0]), zeros(strategy, 3)
    for t, difference in enumerate(rounds, start=1):
        states = [{slot: float(array[i]) for slot, array in state.items()} for i in range(3)]
        steps = [expected(strategy, t, float(w[i]), difference[i], states[i]) for i in range(3)]
        w, state = server_step(strategy, t, w, np.array(difference), state)
        assert w.tolist() == [next_w for next_w, _ in steps]
        assert set(state) == set(strategy.slots)
        assert all(state[slot].tolist() == [after[slot] for _, after in steps] for slot in state)


@given(optimisers, st.integers(1, 1_000_000), st.integers(0, 40))
def test_elements_do_not_know_of_one_another_nor_are_the_arrays_changed(
    strategy: Optimiser, t: int, cut: int
) -> None:
    random = np.random.default_rng(cut)
    w, d = random.standard_normal((2, 40))
    state = {slot: random.random(40) for slot in strategy.slots}
    for given_array in (w, d, *state.values()):
        given_array.flags.writeable = False
    whole, after = server_step(strategy, t, w, d, state)
    for part in (slice(0, cut), slice(cut, 40)):
        new_w, new = server_step(strategy, t, w[part], d[part], {slot: a[part] for slot, a in state.items()})
        assert new_w.tobytes() == whole[part].tobytes()
        assert all(new[slot].tobytes() == after[slot][part].tobytes() for slot in after)


def test_yogi_stays_where_the_square_is_what_it_expected() -> None:
    state = {Slot.M: np.zeros(2), Slot.V: np.array([4.0, 0.0])}
    assert server_step(FedYogi(), 1, np.zeros(2), np.array([2.0, 0.0]), state)[1][Slot.V].tolist() == [
        4.0,
        0.0,
    ]


@given(st.floats(1e-6, 10), rates, rates, st.integers(1, 1_000_001))
def test_the_rate_of_adam_is_rounded_once(eta: float, b1: float, b2: float, t: int) -> None:
    with localcontext() as context:
        context.prec = 200
        left1, left2 = (1 - Decimal(b) ** (t + 1) for b in (b1, b2))
        exact = Decimal(eta) * left2.sqrt() / left1
        assert adam_rate(FedAdam(eta=eta, b1=b1, b2=b2), t) == float(exact)


def test_the_first_round_of_adam_counts_as_the_first() -> None:
    strategy = FedAdam(eta=0.1, b1=0.9, b2=0.99)
    assert adam_rate(strategy, 1) == pytest.approx(0.1 * sqrt(1 - 0.99**2) / (1 - 0.9**2), rel=1e-15)


def test_nothing_moves_without_a_difference() -> None:
    w = np.array([3.0, -4.0])
    for strategy in (FedAvgM(), FedAdagrad(), FedAdam(), FedYogi()):
        assert server_step(strategy, 1, w, np.zeros(2), zeros(strategy, 2))[0].tolist() == w.tolist()


@pytest.mark.parametrize("strategy", [FedAvgM(server_lr=1e300), FedAdagrad(), FedAdam(), FedYogi()])
def test_a_step_beyond_all_numbers_is_refused(strategy: Optimiser) -> None:
    with pytest.raises(StepOutOfRange) as refused:
        server_step(strategy, 1, np.zeros(20), np.full(20, 1e200), zeros(strategy, 20))
    assert refused.value.strategy == strategy.name
