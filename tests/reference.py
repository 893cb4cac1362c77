"""What every strategy must make of a round, by its formulas: whole tensors, no shards, no streams.

Floats are added in float64, in the order of the clients; everything else is done in Python's exact numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Context, Decimal
from fnmatch import fnmatchcase
from fractions import Fraction
from math import gcd, lcm
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from infra.weights.layout import Dtype, Layout, Tensor
from schemas import strategies as s
from schemas.ids import ClientId
from schemas.plan import BUFFERS
from schemas.words import Extra, Slot, UpdateKind

Array = NDArray[Any]
Arrays = dict[str, Array]
Next = tuple[Arrays, dict[Slot, Arrays]]

EXACT = Context(prec=50, Emax=10**6, Emin=-(10**6))
FLOATS = {Dtype.F64: "<f8", Dtype.F32: "<f4", Dtype.F16: "<f2", Dtype.BF16: ml_dtypes.bfloat16}
RANKED = (s.FedMedian, s.FedTrimmedAvg, s.Bulyan)
STEPPED = (s.FedAvgM, s.FedAdagrad, s.FedAdam, s.FedYogi)
SPECIAL = (*STEPPED, s.QFedAvg, s.SCAFFOLD, s.Custom)


@dataclass(frozen=True)
class Sent:
    """One client's update: arrays by the names they have in its file."""

    client: ClientId
    num_examples: int
    arrays: Arrays
    loss: float = 1.0
    distance: float = 0.0  # from the current model, as it was measured


@dataclass(frozen=True)
class Round:
    """`sent` is sorted by client."""

    layout: Layout
    strategy: s.Strategy
    current: Arrays
    sent: tuple[Sent, ...]
    state: Mapping[Slot, Arrays] = field(default_factory=dict)
    number: int = 0
    update: UpdateKind = UpdateKind.WEIGHTS
    norm_clip: float | None = None
    extra: Extra | None = None
    buffers: tuple[str, ...] = BUFFERS


def combined(round_: Round) -> Next:
    """The next model and state."""
    if round_.strategy.chooses:
        kept = chosen(round_)
        round_ = replace(round_, sent=tuple(each for each in round_.sent if each.client in kept))
    model: Arrays = {}
    state: dict[Slot, Arrays] = {slot: {} for slot in slots(round_)}
    with np.errstate(all="ignore"):
        for tensor in round_.layout.tensors:
            model[tensor.name] = _next(round_, tensor, state)
            if tensor.dtype in FLOATS and round_.extra is not None:
                _beside(round_, tensor, state)
    return model, state


def slots(round_: Round) -> tuple[Slot, ...]:
    return () if isinstance(round_.strategy, s.SWAG) and round_.extra is None else round_.strategy.slots


def weights(round_: Round) -> list[int]:
    """Coprime integers in the ratio of examples times client weight."""
    exact = [_weight(round_.strategy, sent) for sent in round_.sent]
    denominator = lcm(*(each.denominator for each in exact))
    whole = [int(each * denominator) for each in exact]
    return [each // (gcd(*whole) or 1) for each in whole]


def _weight(strategy: s.Strategy, sent: Sent) -> Fraction:
    match strategy:
        case s.FedAvg():
            limit = {s.Weighting.UNIFORM: 1, s.Weighting.CAPPED: strategy.cap}.get(strategy.weighting)
            share = Fraction(repr(strategy.client_weights.get(sent.client, 1.0)))
            return min(sent.num_examples, limit or sent.num_examples) * share
        case s.SCAFFOLD(weighting=s.Weighting.UNIFORM) | s.FedDC():
            return Fraction(1)
        case s.FedMedian() | s.FedTrimmedAvg() | s.Bulyan():
            return Fraction(1)
    return Fraction(sent.num_examples)


def scale(round_: Round, sent: Sent) -> float:
    clip = round_.norm_clip
    return 1.0 if clip is None or sent.distance <= clip else clip / sent.distance


def chosen(round_: Round) -> set[ClientId]:
    """Krum's choice, from squared distances in fractions."""
    strategy, sent = round_.strategy, list(round_.sent)
    vectors = {each.client: _vector(round_, each) for each in sent}
    far = {
        (a, b): sum(((x - y) ** 2 for x, y in zip(vectors[a], vectors[b], strict=True)), Fraction(0))
        for a in vectors
        for b in vectors
    }
    if isinstance(strategy, s.Bulyan) and strategy.selection is s.Selection.ITERATIVE:
        kept: set[ClientId] = set()
        while len(kept) < len(sent) - 2 * strategy.f:
            left = [each.client for each in sent if each.client not in kept]
            kept.add(_by_score(left, far, strategy.f)[0])
        return kept
    assert isinstance(strategy, s.Krum | s.MultiKrum | s.Bulyan)
    count = {s.Krum: 1, s.MultiKrum: getattr(strategy, "k", 0), s.Bulyan: len(sent) - 2 * strategy.f}
    return set(_by_score([each.client for each in sent], far, strategy.f)[: count[type(strategy)]])


def _by_score(
    clients: Sequence[ClientId], far: Mapping[tuple[ClientId, ClientId], Fraction], f: int
) -> list[ClientId]:
    nearest = max(1, len(clients) - f - 2)
    scores = {
        client: sum(sorted(far[client, other] for other in clients if other != client)[:nearest])
        for client in clients
    }
    return sorted(clients, key=lambda client: (scores[client], client))


def _vector(round_: Round, sent: Sent) -> list[Fraction]:
    """Of floats that are clipped, partial or deltas the rounded difference: it decides near ties."""
    is_whole = all(t.name in each.arrays for each in round_.sent for t in round_.layout.tensors)
    is_clipped = any(scale(round_, each) != 1 for each in round_.sent)
    compares_differences = round_.update is UpdateKind.DELTA or is_clipped or not is_whole
    found: list[Fraction] = []
    for tensor in round_.layout.tensors:
        if tensor.dtype not in FLOATS:
            values = (
                _whole(round_, tensor, sent) if tensor.name in sent.arrays else round_.current[tensor.name]
            )
        elif tensor.name not in sent.arrays:
            values = np.zeros(tensor.shape)
        elif compares_differences:
            values = _difference(round_, tensor.name, sent) * scale(round_, sent)
        else:
            values = sent.arrays[tensor.name].astype(np.float64)
        found.extend(Fraction(value) for value in values.ravel().tolist())
    return found


def _whole(round_: Round, tensor: Tensor, sent: Sent) -> Array:
    """Integers and booleans; a delta counts modulo 2**bits."""
    values, w = sent.arrays[tensor.name], round_.current[tensor.name]
    if round_.update is UpdateKind.WEIGHTS:
        return values
    return w ^ values if tensor.dtype == Dtype.BOOL else w + values


def _difference(round_: Round, name: str, sent: Sent) -> Array:
    wide = sent.arrays[name].astype(np.float64)
    return wide if round_.update is UpdateKind.DELTA else wide - round_.current[name].astype(np.float64)


def _weights(round_: Round, name: str, sent: Sent) -> Array:
    """Of floats, clipped."""
    shrunk = scale(round_, sent)
    if shrunk == 1 and round_.update is UpdateKind.WEIGHTS:
        return sent.arrays[name].astype(np.float64)
    difference = _difference(round_, name, sent)
    return round_.current[name].astype(np.float64) + (difference * shrunk if shrunk != 1 else difference)


def _next(round_: Round, tensor: Tensor, state: dict[Slot, Arrays]) -> Array:
    name, strategy, w = tensor.name, round_.strategy, round_.current[tensor.name]
    pairs = zip(round_.sent, weights(round_), strict=True)
    counted = [(sent, weight) for sent, weight in pairs if weight and name in sent.arrays]
    is_float = tensor.dtype in FLOATS
    is_buffer = any(fnmatchcase(name, pattern) for pattern in round_.buffers)
    steps = isinstance(strategy, STEPPED) and is_float
    before = {slot: _state(round_, slot, tensor) for slot in strategy.slots} if steps else {}
    if steps:
        for slot, values in before.items():
            state[slot][name] = values
    if not counted:
        return w
    if isinstance(strategy, RANKED):
        return _ranked(round_, tensor, [sent for sent, _ in counted])
    if not is_float:
        return _whole_mean(round_, tensor, counted)
    if is_buffer or not isinstance(strategy, SPECIAL):
        terms = [(float(weight), _weights(round_, name, sent)) for sent, weight in counted]
        return rounded(_sum(terms) / float(sum(weight for _, weight in counted)), tensor.dtype)
    return rounded(_special(round_, tensor, counted, before, state), tensor.dtype)


def _special(
    round_: Round,
    tensor: Tensor,
    counted: Sequence[tuple[Sent, int]],
    before: Mapping[Slot, Array],
    state: dict[Slot, Arrays],
) -> Array:
    name, strategy = tensor.name, round_.strategy
    w = round_.current[name].astype(np.float64)
    total = float(sum(weight for _, weight in counted))
    match strategy:
        case s.SCAFFOLD():
            moved = [
                (float(weight), _difference(round_, name, sent) * scale(round_, sent))
                for sent, weight in counted
            ]
            return w + strategy.lr * (_sum(moved) / total)
        case s.QFedAvg():
            fair = [_fair(strategy, sent, scale(round_, sent)) for sent, _ in counted]
            terms = [
                (factor, _difference(round_, name, sent))
                for (factor, _), (sent, _) in zip(fair, counted, strict=True)
            ]
            return w + _sum(terms) / sum(h for _, h in fair)
        case s.Custom():  # tests.rules:damped
            rows = [(float(weight), _weights(round_, name, sent)) for sent, weight in counted]
            return w + float(str(strategy.options["share"])) * (_sum(rows) / total - w)
    mean = _sum([(float(weight), _weights(round_, name, sent)) for sent, weight in counted]) / total
    made, after = _step(strategy, round_.number + 1, w, mean - w, before)
    for slot, values in after.items():
        state[slot][name] = values
    return made


def _fair(strategy: s.QFedAvg, sent: Sent, shrunk: float) -> tuple[float, float]:
    loss = EXACT.add(Decimal(sent.loss), Decimal("1e-10"))
    lipschitz = EXACT.divide(Decimal(1), Decimal(strategy.client_lr))
    power = EXACT.power(loss, Decimal(strategy.q))
    far = EXACT.multiply(lipschitz, EXACT.multiply(Decimal(shrunk), Decimal(sent.distance)))
    slope = EXACT.multiply(Decimal(strategy.q), EXACT.divide(power, loss))
    h = EXACT.add(EXACT.multiply(slope, EXACT.multiply(far, far)), EXACT.multiply(lipschitz, power))
    return float(EXACT.multiply(EXACT.multiply(lipschitz, power), Decimal(shrunk))), float(h)


def _step(
    strategy: s.Strategy, t: int, w: Array, d: Array, state: Mapping[Slot, Array]
) -> tuple[Array, dict[Slot, Array]]:
    match strategy:
        case s.FedAvgM():
            v = strategy.momentum * state[Slot.MOMENTUM] - d
            step = strategy.momentum * v - d if strategy.nesterov else v
            return w - strategy.server_lr * step, {Slot.MOMENTUM: v}
        case s.FedAdagrad():
            v = state[Slot.V] + d * d
            return w + strategy.eta * d / (np.sqrt(v) + strategy.tau), {Slot.V: v}
        case s.FedAdam():
            m = strategy.b1 * state[Slot.M] + _rest(strategy.b1) * d
            v = strategy.b2 * state[Slot.V] + _rest(strategy.b2) * (d * d)
            left1, left2 = (1 - EXACT.power(Decimal(b), t + 1) for b in (strategy.b1, strategy.b2))
            rate = float(EXACT.divide(EXACT.multiply(Decimal(strategy.eta), EXACT.sqrt(left2)), left1))
            return w + rate * m / (np.sqrt(v) + strategy.tau), {Slot.M: m, Slot.V: v}
        case s.FedYogi():
            m = strategy.b1 * state[Slot.M] + _rest(strategy.b1) * d
            v = state[Slot.V] - _rest(strategy.b2) * (d * d) * np.sign(state[Slot.V] - d * d)
            return w + strategy.eta * m / (np.sqrt(v) + strategy.tau), {Slot.M: m, Slot.V: v}
    raise TypeError(strategy.name)


def _rest(b: float) -> float:
    return float(1 - Decimal(b))


def _beside(round_: Round, tensor: Tensor, state: dict[Slot, Arrays]) -> None:
    (slot,) = round_.strategy.slots
    name, before = f"{round_.extra}/{tensor.name}", _state(round_, slot, tensor)
    pairs = zip(round_.sent, weights(round_), strict=True)
    counted = [(float(weight), sent.arrays[name]) for sent, weight in pairs if name in sent.arrays]
    if not counted:
        state[slot][tensor.name] = before
        return
    mean = _sum(counted) / sum(weight for weight, _ in counted)
    is_sum = isinstance(round_.strategy, s.SCAFFOLD)
    state[slot][tensor.name] = rounded(before.astype(np.float64) + mean if is_sum else mean, tensor.dtype)


def _state(round_: Round, slot: Slot, tensor: Tensor) -> Array:
    if slot in round_.state:
        return round_.state[slot][tensor.name]
    is_like_the_model = slot in {Slot.CONTROL, Slot.SECOND_MOMENT}
    return np.zeros(tensor.shape, FLOATS[tensor.dtype] if is_like_the_model else "<f8")


def _sum(terms: Sequence[tuple[float, Array]]) -> Array:
    (factor, values), *others = terms
    total: Array = values.astype(np.float64) * factor
    for each, more in others:
        total = total + more.astype(np.float64) * each
    return total


def _whole_mean(round_: Round, tensor: Tensor, counted: Sequence[tuple[Sent, int]]) -> Array:
    rows = [(weight, _whole(round_, tensor, sent).ravel().tolist()) for sent, weight in counted]
    total = sum(weight for weight, _ in rows)
    sums = [sum(weight * row[i] for weight, row in rows) for i in range(len(rows[0][1]))]
    means: list[Any] = [round(Fraction(each, total)) for each in sums]
    if tensor.dtype == Dtype.BOOL:
        means = [2 * each > total for each in sums]
    return np.array(means, round_.current[tensor.name].dtype).reshape(tensor.shape)


def _ranked(round_: Round, tensor: Tensor, sent: Sequence[Sent]) -> Array:
    is_float = tensor.dtype in FLOATS
    rows = [_weights(round_, tensor.name, e) if is_float else _whole(round_, tensor, e) for e in sent]
    columns = zip(*(row.ravel().tolist() for row in rows), strict=True)
    kept = [_kept(round_.strategy, sorted(map(Fraction, column))) for column in columns]
    if tensor.dtype == Dtype.BOOL:
        votes = np.sum([row.astype(np.int64) for row in rows], axis=0)
        return np.asarray(2 * votes > len(rows)).reshape(tensor.shape)
    if not is_float:
        means = [round(sum(each) / len(each)) for each in kept]
        return np.array(means, round_.current[tensor.name].dtype).reshape(tensor.shape)
    floats = [_float_mean([float(value) for value in each]) for each in kept]
    return rounded(np.array(floats, np.float64).reshape(tensor.shape), tensor.dtype)


def _float_mean(values: Sequence[float]) -> float:
    """Their sum in ascending order over their number."""
    total = 0.0
    for value in values:
        total += value
    return total / len(values)


def _kept(strategy: s.Strategy, ordered: list[Fraction]) -> list[Fraction]:
    n = len(ordered)
    match strategy:
        case s.FedMedian():
            return ordered[(n - 1) // 2 : n // 2 + 1]
        case s.FedTrimmedAvg():
            cut = strategy.cut(n)
            return ordered[cut : n - cut]
        case s.Bulyan():
            middle = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
            keep = max(1, n - 2 * strategy.f)
            near = sorted(ordered, key=lambda value: (abs(value - middle), value))[:keep]
            return sorted(near)
    raise TypeError(strategy.name)


def rounded(wide: Array, dtype: Dtype) -> Array:
    if dtype != Dtype.BF16:
        found: Array = wide.astype(FLOATS[dtype])
        return found
    bits = np.array([_bfloat16(value) for value in wide.ravel().tolist()], "<u2")
    halves: Array = bits.view(ml_dtypes.bfloat16).reshape(wide.shape)
    return halves


def _bfloat16(value: float) -> int:
    """The bits of the nearest of the neighbours of a rough guess, by exact arithmetic."""
    guess = int(np.array(value, ml_dtypes.bfloat16).view(np.uint16))
    near = [bits for bits in (guess - 1, guess, guess + 1) if 0 <= bits < 2**16 and (bits ^ guess) < 2**15]
    numbers = {bits: float(np.uint16(bits).view(ml_dtypes.bfloat16)) for bits in near}
    finite = {bits: number for bits, number in numbers.items() if np.isfinite(number)}
    best: int = min(finite, key=lambda bits: (abs(Fraction(finite[bits]) - Fraction(value)), bits & 1))
    return best
