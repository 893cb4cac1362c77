import itertools
import tracemalloc
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.weights.arrays import NUMPY
from infra.weights.layout import Dtype, Layout, Tensor, canonical, shards
from infra.weights.refusals import WeightsPadded, WeightsTruncated
from services.aggregator.fedavg import TOTAL_CAP, WEIGHT_CAP, ShardMean, fedavg
from services.aggregator.means import FLOATS, IntegerMean, rounded_quotient
from services.aggregator.rounding import narrow
from tests.unit.aggregator.chunking import chunk_sizes, chunked
from tests.unit.weights.strategies import file_of, layouts

INTEGERS = [dtype for dtype in Dtype if dtype not in FLOATS and dtype != Dtype.BOOL]
weights = st.one_of(st.integers(1, 10), st.integers(1, WEIGHT_CAP), st.just(WEIGHT_CAP))


def data_of(layout: Layout, seed: int) -> bytes:
    return file_of(layout, seed)[layout.header_size :]


def reference(layout: Layout, updates: list[tuple[int, bytes]]) -> bytes:
    """The rules written down element by element, in Python's own numbers."""
    return b"".join(_reference_of(tensor, updates) for tensor in layout.tensors)


def _reference_of(tensor: Tensor, updates: list[tuple[int, bytes]]) -> bytes:
    dtype = NUMPY[tensor.dtype]
    columns = [np.frombuffer(update[tensor.begin : tensor.end], dtype).tolist() for _, update in updates]
    counts = [weight for weight, _ in updates]
    means = [_mean(tensor.dtype, counts, values) for values in zip(*columns, strict=True)]
    if tensor.dtype == Dtype.BF16:
        return b"".join(_bfloat16(mean) for mean in means)
    return np.array(means, dtype).tobytes()


def _mean(dtype: Dtype, counts: list[int], values: tuple[float, ...]) -> float:
    if dtype in FLOATS:
        terms = [float(count) * float(value) for count, value in zip(counts, values, strict=True)]
        return list(itertools.accumulate(terms))[-1] / sum(counts)
    exact = sum(count * Fraction(value) for count, value in zip(counts, values, strict=True)) / sum(counts)
    return exact > Fraction(1, 2) if dtype == Dtype.BOOL else round(exact)


def _bfloat16(value: float) -> bytes:
    """The nearest of the neighbours of a rough guess, by exact arithmetic."""
    guess = int(np.array(value, ml_dtypes.bfloat16).view(np.uint16))
    near = [bits for bits in (guess - 1, guess, guess + 1) if 0 <= bits < 2**16 and (bits ^ guess) < 2**15]
    numbers = {bits: float(np.uint16(bits).view(ml_dtypes.bfloat16)) for bits in near}
    finite = {bits: number for bits, number in numbers.items() if np.isfinite(number)}
    best = min(finite, key=lambda bits: (abs(Fraction(finite[bits]) - Fraction(value)), bits & 1))
    return best.to_bytes(2, "little")


@given(
    layouts(),
    st.lists(weights, min_size=1, max_size=5),
    st.integers(0, 2**32),
    st.integers(1, 20),
    chunk_sizes,
)
def test_a_mean_has_the_bits_of_the_rules_for_any_shards_and_chunks(
    layout: Layout, counts: list[int], seed: int, eighths: int, sizes: list[int]
) -> None:
    updates = [(weight, data_of(layout, seed + 100 * i)) for i, weight in enumerate(counts)]
    parts = [
        fedavg(layout, span, ((w, chunked(data[span.start : span.stop], sizes)) for w, data in updates))
        for span in shards(layout.data_size, 8 * eighths)
    ]
    assert b"".join(itertools.chain(*parts)) == reference(layout, updates)


@given(layouts(), st.integers(0, 2**32), st.integers(1, 3), st.integers(1, 2**20))
def test_the_mean_of_equal_updates_is_that_update(layout: Layout, seed: int, times: int, weight: int) -> None:
    floats = canonical(tensor for tensor in layout.tensors if tensor.dtype != Dtype.F64)
    data = data_of(floats, seed)
    assert b"".join(fedavg(floats, range(floats.data_size), [(weight, [data])] * times)) == data


@pytest.mark.parametrize("dtype", INTEGERS)
@given(st.data())
def test_an_integer_mean_is_exact_at_the_limits_of_its_dtype(dtype: Dtype, data: st.DataObject) -> None:
    limits = np.iinfo(NUMPY[dtype].name)
    edges = st.sampled_from([limits.min, limits.min + 1, limits.max - 1, limits.max])
    terms = data.draw(st.lists(st.tuples(weights, edges | st.integers(limits.min, limits.max)), min_size=1))
    mean = IntegerMean(dtype, 1)
    for weight, value in terms:
        mean.add(weight, np.array([value], NUMPY[dtype]), 0)
    total = sum(weight for weight, _ in terms)
    assert int(mean.result(slice(0, 1), total)[0]) == round(Fraction(sum(w * v for w, v in terms), total))


@given(st.integers(1, TOTAL_CAP), st.integers(-(2**63), 2**64 - 1), st.integers(0, TOTAL_CAP - 1))
def test_a_sum_of_any_size_is_divided_exactly(total: int, mean: int, rest: int) -> None:
    exact = total * mean + (rest % total if mean < 2**64 - 1 else 0)
    low, middle, top = exact & (2**32 - 1), (exact >> 32) & (2**32 - 1), exact >> 64
    assert (
        int(rounded_quotient(np.array([top]), np.array([middle]), np.array([low]), total)[0])
        == round(Fraction(exact, total)) % 2**64
    )


@pytest.mark.parametrize(
    ("votes", "expected"),
    [([(1, True), (1, False)], False), ([(2, True), (1, False)], True), ([(1, False)], False)],
)
def test_a_boolean_is_what_the_weighted_majority_says_and_a_tie_is_false(
    votes: list[tuple[int, bool]], expected: bool
) -> None:
    layout = canonical([Tensor("mask", Dtype.BOOL, (1,))])
    updates = [(weight, [bytes([says])]) for weight, says in votes]
    assert b"".join(fedavg(layout, range(1), updates)) == bytes([expected])


def test_half_precision_does_not_overflow_on_the_way() -> None:
    layout = canonical([Tensor("w", Dtype.F16, (1,))])
    largest = np.array([65504], np.float16).tobytes()
    assert b"".join(fedavg(layout, range(2), [(WEIGHT_CAP, [largest])] * 9)) == largest


@given(st.floats(-3e38, 3e38, allow_subnormal=True) | st.floats(-1e-38, 1e-38, allow_subnormal=True))
def test_bfloat16_is_rounded_once(value: float) -> None:
    assert narrow(np.array([value]), Dtype.BF16).tobytes() == _bfloat16(value)


@pytest.mark.parametrize("tail", [2**-40, 0.0, -(2**-40)])
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("odd", [0, 1])
def test_a_value_next_to_halfway_goes_to_its_own_side(tail: float, sign: float, odd: int) -> None:
    value = sign * (1 + odd * 2**-7 + 2**-8 + tail)
    assert narrow(np.array([value]), Dtype.BF16).tobytes() == _bfloat16(value)


@pytest.mark.parametrize(
    ("size", "refusal"), [(7, WeightsTruncated), (0, WeightsTruncated), (9, WeightsPadded)]
)
def test_an_update_of_another_length_is_refused(size: int, refusal: type[Exception]) -> None:
    layout = canonical([Tensor("w", Dtype.F32, (2,))])
    with pytest.raises(refusal):
        ShardMean(layout, range(8)).add(1, [bytes(size)])


@pytest.mark.parametrize("weight", [0, -1, WEIGHT_CAP + 1])
def test_a_weight_is_a_positive_count_below_the_cap(weight: int) -> None:
    layout = canonical([Tensor("w", Dtype.F32, (2,))])
    with pytest.raises(ValueError, match="out of range"):
        ShardMean(layout, range(8)).add(weight, [bytes(8)])


def test_there_is_no_mean_of_no_updates() -> None:
    with pytest.raises(ValueError, match="no updates"):
        list(ShardMean(canonical([]), range(0)).result())


def test_memory_does_not_grow_with_the_number_of_updates() -> None:
    layout = canonical([Tensor("w", Dtype.F32, (1 << 20,))])
    update = bytes(layout.data_size)

    def peak(updates: int) -> int:
        tracemalloc.start()
        chunks = (update[at : at + 65_536] for _ in range(updates) for at in range(0, len(update), 65_536))
        mean = ShardMean(layout, range(layout.data_size))
        for _ in range(updates):
            mean.add(1, itertools.islice(chunks, len(update) // 65_536))
        for _ in mean.result():
            pass
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    assert peak(12) <= 1.05 * peak(2) <= 1.05 * 4 * layout.data_size
