from fractions import Fraction
from math import gcd, inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.message import MAX_EXAMPLES
from schemas.refusal import Refusal
from schemas.strategies import (
    SCAFFOLD,
    SWAG,
    Bulyan,
    FedAdam,
    FedAvg,
    FedDC,
    FedMedian,
    FedProx,
    FedTrimmedAvg,
    Krum,
    QFedAvg,
    Strategy,
    Weighting,
)
from schemas.weights import PlannedUpdate
from services.aggregator.rules.refusals import (
    ClientTwice,
    LossOutOfRange,
    NegativeLoss,
    NoLoss,
    NothingWeighs,
    NotMeasured,
    NoUpdates,
    TooFewUpdates,
    TooManyUpdates,
)
from services.aggregator.rules.weighting import MAX_TOTAL, check_updates, q_terms, scales_of, weights_of
from tests.unit.aggregator.planned import a_client, planned

THREE = [planned(1, 10), planned(2, 20), planned(3, 40)]
examples = st.integers(1, 10) | st.integers(1, MAX_EXAMPLES)


def uniform() -> FedAvg:
    return FedAvg(weighting=Weighting.UNIFORM)


@pytest.mark.parametrize(
    ("strategy", "weights"),
    [
        (FedAvg(), (1, 2, 4)),
        (FedProx(), (1, 2, 4)),
        (FedAvg(weighting=Weighting.CAPPED, cap=15), (2, 3, 3)),
        (uniform(), (1, 1, 1)),
        (FedAvg(client_weights={a_client(2): 0.5, a_client(3): 0.0}), (1, 1, 0)),
        (FedAvg(client_weights={a_client(1): 0.1, a_client(2): 0.3, a_client(3): 0.2}), (1, 6, 8)),
        (FedDC(), (1, 1, 1)),
        (FedMedian(), (1, 1, 1)),
        (FedTrimmedAvg(), (1, 1, 1)),
        (Bulyan(), (1, 1, 1)),
        (SCAFFOLD(), (1, 1, 1)),
        (SCAFFOLD(weighting=Weighting.EXAMPLES), (1, 2, 4)),
        (FedAdam(), (1, 2, 4)),
        (QFedAvg(), (1, 2, 4)),
        (SWAG(), (1, 2, 4)),
        (Krum(), (1, 2, 4)),
    ],
    ids=lambda each: getattr(each, "name", ""),
)
def test_an_update_counts_as_its_strategy_says(strategy: Strategy, weights: tuple[int, ...]) -> None:
    assert weights_of(strategy, THREE) == weights


@given(st.lists(st.tuples(examples, st.floats(0, 1)), min_size=1, max_size=20))
def test_weights_are_coprime_and_in_the_exact_ratio_or_as_near_as_integers_can_be(
    terms: list[tuple[int, float]],
) -> None:
    exact = [count * Fraction(repr(share)) for count, share in terms]
    strategy = FedAvg(client_weights={a_client(i): share for i, (_, share) in enumerate(terms)})
    updates = [planned(i, count) for i, (count, _) in enumerate(terms)]
    if not any(exact):
        with pytest.raises(NothingWeighs):
            weights_of(strategy, updates)
        return
    weights = weights_of(strategy, updates)
    assert sum(weights) <= MAX_TOTAL
    assert [weight > 0 for weight in weights] == [each > 0 for each in exact]
    shares = [
        Fraction(weight, sum(weights)) - each / sum(exact)
        for weight, each in zip(weights, exact, strict=True)
    ]
    assert all(abs(share) < Fraction(1 + len(terms), 2**52) for share in shares)
    assert (gcd(*weights) == 1 and not any(shares)) or sum(weights) >= 2**52 - len(weights)


@given(examples, st.floats(1e-300, 1))
def test_a_single_update_counts_one_so_that_its_bits_stay(count: int, share: float) -> None:
    assert weights_of(FedAvg(client_weights={a_client(1): share}), [planned(1, count)]) == (1,)


def test_a_client_that_counts_next_to_nothing_still_takes_part() -> None:
    tiny = FedAvg(client_weights={a_client(1): 1e-300})
    assert weights_of(tiny, [planned(1), planned(2)]) == (1, 2**52)


@given(st.lists(st.floats(0, 1e300), min_size=1, max_size=9), st.floats(1e-6, 1e6))
def test_no_scaled_difference_is_longer_than_the_clip_and_short_ones_stay(
    distances: list[float], clip: float
) -> None:
    updates = [planned(i, distance=distance) for i, distance in enumerate(distances)]
    for distance, scale in zip(distances, scales_of(clip, updates), strict=True):
        assert (scale == 1) if distance <= clip else scale == float(Fraction(clip) / Fraction(distance))


def test_nothing_is_scaled_without_a_clip() -> None:
    assert scales_of(None, THREE) == (1.0, 1.0, 1.0)


@given(
    st.lists(st.tuples(st.floats(0, 1e3), st.floats(0, 1e3), st.floats(1e-3, 1)), min_size=1, max_size=5),
    st.floats(0, 5),
    st.floats(1e-3, 1e3),
)
def test_the_terms_of_q_fair_averaging_are_those_of_the_formula(
    clients: list[tuple[float, float, float]], q: float, client_lr: float
) -> None:
    updates = [planned(i, loss=loss, distance=far) for i, (loss, far, _) in enumerate(clients)]
    scales = [scale for _, _, scale in clients]
    found = q_terms(QFedAvg(q=q, client_lr=client_lr), updates, scales)
    for (loss, far, scale), (factor, h) in zip(clients, found, strict=True):
        f, steep = loss + 1e-10, 1 / client_lr
        assert factor == pytest.approx(f**q * steep * scale, rel=1e-12)
        assert h == pytest.approx(q * f ** (q - 1) * (steep * scale * far) ** 2 + steep * f**q, rel=1e-12)


def test_with_q_of_0_all_clients_count_alike() -> None:
    updates = [planned(1, loss=0.0, distance=9.0), planned(2, loss=5.0, distance=0.0)]
    assert q_terms(QFedAvg(q=0.0, client_lr=0.5), updates, [1.0, 1.0]) == ((2.0, 2.0), (2.0, 2.0))


def _fair(**facts: float | None) -> tuple[tuple[float, float], ...]:
    return q_terms(QFedAvg(q=2.0), [planned(1, **facts)], [1.0])  # type: ignore[arg-type]  # some facts only


@pytest.mark.parametrize(
    ("facts", "refusal"),
    [
        ({"distance": 1.0}, NoLoss),
        ({"distance": 1.0, "loss": -0.1}, NegativeLoss),
        ({"loss": 1.0}, NotMeasured),
        ({"distance": 1.0, "loss": 1e200}, LossOutOfRange),
    ],
)
def test_q_fair_averaging_needs_a_sane_loss_and_a_distance(
    facts: dict[str, float], refusal: type[Refusal]
) -> None:
    with pytest.raises(refusal):
        _fair(**facts)


@pytest.mark.parametrize("q", [50.0, 1e300])
def test_powers_that_no_float_holds_are_refused(q: float) -> None:
    for loss in (0.0, 1e200):
        with pytest.raises(LossOutOfRange):
            q_terms(QFedAvg(q=q), [planned(1, loss=loss, distance=1.0)], [1.0])


def test_a_clip_needs_distances() -> None:
    with pytest.raises(NotMeasured):
        scales_of(1.0, THREE)


def _many(count: int) -> list[PlannedUpdate]:
    return [planned(number) for number in range(count)]


@pytest.mark.parametrize(
    ("strategy", "updates", "refusal"),
    [
        (FedAvg(), [], NoUpdates),
        (FedAvg(), [planned(1), planned(1, 5)], ClientTwice),
        (Bulyan(f=1), _many(6), TooFewUpdates),
        (Krum(f=1), _many(1_025), TooManyUpdates),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_updates_that_the_rule_says_nothing_about_are_refused(
    strategy: Strategy, updates: list[PlannedUpdate], refusal: type[Refusal]
) -> None:
    with pytest.raises(refusal):
        check_updates(strategy, updates)


def test_of_chosen_updates_there_may_be_few() -> None:
    check_updates(Krum(f=3), _many(1), is_chosen=True)
    assert weights_of(Krum(f=3), [planned(1, 7)]) == (1,)


def test_refusals_have_codes_and_keep_what_they_are_about() -> None:
    with pytest.raises(NegativeLoss) as refused:
        _fair(distance=1.0, loss=-2.0)
    assert (refused.value.code, refused.value.client_id, refused.value.loss) == (
        "negative_loss",
        a_client(1),
        -2.0,
    )
    assert scales_of(inf, [planned(1, distance=1.0)]) == (1.0,)
