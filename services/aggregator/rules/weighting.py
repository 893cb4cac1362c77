"""How much each update counts: weights, clip scales and the terms of q-fair averaging.

Weights are exact integers; powers are taken in decimal and rounded once to float64, so that no mathematical
library decides a bit.
"""

from collections.abc import Sequence
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, Overflow
from fractions import Fraction
from math import gcd, inf, lcm

from schemas.ids import ClientId
from schemas.strategies import (
    SCAFFOLD,
    Bulyan,
    FedAvg,
    FedDC,
    FedMedian,
    FedTrimmedAvg,
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

MAX_COMPARED = 1_024  # updates that are compared with one another
MAX_TOTAL = 2**53 - 1  # of the weights: such integers are exact in float64
SCALED_TOTAL = 2**52
EXACT = Context(prec=50, Emax=MAX_EMAX, Emin=MIN_EMIN)

_LOSS_FLOOR = Decimal("1e-10")
_LEAST_NORMAL = 2.0**-1_022  # below it a float has fewer digits


def check_updates(strategy: Strategy, updates: Sequence[PlannedUpdate], *, is_chosen: bool = False) -> None:
    """Refuse what the rule says nothing about; of chosen updates there may be fewer than it chose from."""
    if not updates:
        raise NoUpdates
    seen: set[ClientId] = set()
    for update in updates:
        if update.client_id in seen:
            raise ClientTwice(update.client_id)
        seen.add(update.client_id)
    if not is_chosen and len(updates) < strategy.least_updates:
        raise TooFewUpdates(strategy.name, len(updates), strategy.least_updates)
    if strategy.chooses and len(updates) > MAX_COMPARED:
        raise TooManyUpdates(strategy.name, len(updates), MAX_COMPARED)


def weights_of(strategy: Strategy, updates: Sequence[PlannedUpdate]) -> tuple[int, ...]:
    """What each update counts in a mean: coprime integers whose sum is at most `MAX_TOTAL`.

    They are in the exact ratio of examples times client weight (as the decimal fraction that is written),
    unless their sum would be too large: then the nearest integers from 1 on that sum to about 2**52.
    0: not at all.
    """
    check_updates(strategy, updates, is_chosen=True)
    counts = [_count(strategy, update) for update in updates]
    denominator = lcm(*(count.denominator for count in counts))
    numerators = [int(count * denominator) for count in counts]
    divisor = gcd(*numerators)
    if not divisor:
        raise NothingWeighs
    return _bounded([numerator // divisor for numerator in numerators])


def scales_of(norm_clip: float | None, updates: Sequence[PlannedUpdate]) -> tuple[float, ...]:
    """What each update's difference is multiplied by so that its L2 norm is at most `norm_clip`."""
    if norm_clip is None:
        return (1.0,) * len(updates)
    distances = [_distance(update) for update in updates]
    return tuple(1.0 if distance <= norm_clip else norm_clip / distance for distance in distances)


def q_terms(
    strategy: QFedAvg, updates: Sequence[PlannedUpdate], scales: Sequence[float]
) -> tuple[tuple[float, float], ...]:
    """Per update what its difference u - w is multiplied by, and h; the step is sum(those) / sum(h).

    With F = loss + 1e-10, L = 1/client_lr and the clip scale s: the factor is F^q L s, h is
    q F^(q-1) (L s |u-w|)^2 + L F^q.  Li et al., "Fair Resource Allocation in Federated Learning", ICLR 2020.
    """
    check_updates(strategy, updates)
    return tuple(_q_term(strategy, update, scale) for update, scale in zip(updates, scales, strict=True))


def _count(strategy: Strategy, update: PlannedUpdate) -> Fraction:
    match strategy:
        case FedDC() | FedMedian() | FedTrimmedAvg() | Bulyan() | SCAFFOLD(weighting=Weighting.UNIFORM):
            return Fraction(1)
        case FedAvg():
            share = strategy.client_weights.get(update.client_id, 1.0)
            return _examples(strategy, update) * Fraction(repr(share))
        case _:
            return Fraction(update.num_examples)


def _examples(strategy: FedAvg, update: PlannedUpdate) -> int:
    if strategy.weighting is Weighting.UNIFORM:
        return 1
    return min(update.num_examples, strategy.cap or update.num_examples)


def _bounded(weights: list[int]) -> tuple[int, ...]:
    total = sum(weights)
    if total <= MAX_TOTAL:
        return tuple(weights)
    return tuple(max(1, round(Fraction(weight * SCALED_TOTAL, total))) if weight else 0 for weight in weights)


def _distance(update: PlannedUpdate) -> float:
    if update.distance is None:
        raise NotMeasured(update.client_id)
    return update.distance


def _q_term(strategy: QFedAvg, update: PlannedUpdate, scale: float) -> tuple[float, float]:
    loss = _loss(strategy, update)
    q, steepness = Decimal(strategy.q), EXACT.divide(Decimal(1), Decimal(strategy.client_lr))
    distance = EXACT.multiply(Decimal(scale), Decimal(_distance(update)))
    try:
        power = EXACT.power(loss, q)
        slope = EXACT.multiply(q, EXACT.divide(power, loss))
        square = EXACT.power(EXACT.multiply(steepness, distance), 2)
        pull = EXACT.multiply(steepness, power)
        factor, h = float(EXACT.multiply(pull, Decimal(scale))), float(EXACT.fma(slope, square, pull))
    except Overflow:
        factor, h = inf, inf
    if not _LEAST_NORMAL <= h < inf:
        raise LossOutOfRange(update.client_id, update.loss or 0.0, strategy.q)
    return factor, h


def _loss(strategy: QFedAvg, update: PlannedUpdate) -> Decimal:
    if update.loss is None:
        raise NoLoss(update.client_id, strategy.loss_metric)
    if update.loss < 0:
        raise NegativeLoss(update.client_id, update.loss)
    return EXACT.add(Decimal(update.loss), _LOSS_FLOOR)
