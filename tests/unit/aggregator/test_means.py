"""What is particular to means of blocks: weights of any size, any cut, results that a dtype cannot hold."""

from fractions import Fraction
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.weights.arrays import NUMPY
from infra.weights.layout import Dtype
from services.aggregator.rules.means import FLOATS, FloatSum, IntegerMean, Majority
from services.aggregator.rules.refusals import ResultOutOfRange
from services.aggregator.rules.rounding import narrow

INTEGERS = [dtype for dtype in Dtype if dtype not in FLOATS and dtype != Dtype.BOOL]
TOTAL = 2**53 - 1
EDGES = [1, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 1, 2**32, 2**51, 2**52 - 1]


@st.composite
def weights(draw: st.DrawFn) -> list[int]:
    """Any positive integers whose sum is below 2**53."""
    drawn = draw(st.lists(st.sampled_from(EDGES) | st.integers(1, TOTAL), min_size=1, max_size=9))
    totals = [0, *accumulate(drawn)]
    return [weight for weight, total in zip(drawn, totals, strict=False) if total + weight <= TOTAL] or [1]


@pytest.mark.parametrize("dtype", INTEGERS)
@given(weights(), st.data())
def test_an_integer_mean_is_exact_for_weights_up_to_2_to_the_53(
    dtype: Dtype, counts: list[int], data: st.DataObject
) -> None:
    limits = np.iinfo(NUMPY[dtype].name)
    edges = st.sampled_from([limits.min, limits.min + 1, limits.max - 1, limits.max])
    values = [data.draw(edges | st.integers(limits.min, limits.max)) for _ in counts]
    mean = IntegerMean(dtype, 1)
    for weight, value in zip(counts, values, strict=True):
        mean.add(weight, np.array([value], NUMPY[dtype]), 0)
    exact = Fraction(sum(w * v for w, v in zip(counts, values, strict=True)), sum(counts))
    assert int(mean.result(slice(0, 1), sum(counts))[0]) == round(exact)


@given(weights(), st.data())
def test_votes_of_any_weight_are_counted_exactly(counts: list[int], data: st.DataObject) -> None:
    says = [data.draw(st.booleans()) for _ in counts]
    votes = Majority(1)
    for weight, say in zip(counts, says, strict=True):
        votes.add(weight, np.array([say]), 0)
    yes = sum(weight for weight, say in zip(counts, says, strict=True) if say)
    assert votes.result(slice(0, 1), sum(counts)).tolist() == [2 * yes > sum(counts)]


def test_the_cut_into_blocks_changes_no_bit_of_a_float_sum() -> None:
    size = 10_000
    rows = np.random.default_rng(1).standard_normal((3, size))
    whole, pieces = FloatSum(size), FloatSum(size)
    for factor, row in zip((3.0, 2.0**40 + 1, 1.0), rows, strict=True):
        whole.add(factor, row.copy(), 0)
        for at in range(0, size, 777):
            pieces.add(factor, row[at : at + 777].copy(), at)
    found = pieces.over(7.0, slice(0, size))
    assert found.tobytes() == whole.over(7.0, slice(0, size)).tobytes()
    assert found.tobytes() == ((rows[0] * 3.0 + rows[1] * (2.0**40 + 1) + rows[2]) / 7.0).tobytes()


def test_a_single_value_counted_once_keeps_its_sign_of_zero() -> None:
    sums = FloatSum(1)
    sums.add(1.0, np.array([-0.0]), 0)
    assert np.signbit(sums.over(1.0, slice(0, 1))).tolist() == [True]


@pytest.mark.parametrize(
    ("dtype", "largest"),
    [
        (Dtype.F16, 65_504.0),
        (Dtype.BF16, 2.0**127 * (2 - 2.0**-7)),
        (Dtype.F32, float(np.finfo(np.float32).max)),
    ],
)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_result_that_its_dtype_cannot_hold_is_refused_and_the_largest_is_not(
    dtype: Dtype, largest: float, sign: float
) -> None:
    values = np.full(50, sign)
    values[33] = sign * np.nextafter(largest, 0)
    assert narrow(values, dtype)[33] == sign * largest
    for beyond in (largest * (1 + 2.0**-8), largest * 2, 1e300):
        values[33] = sign * beyond
        with pytest.raises(ResultOutOfRange):
            narrow(values, dtype)
