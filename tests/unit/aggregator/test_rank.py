"""Ranks against the same rules in Python's own numbers, one place at a time."""

import itertools
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from infra.weights.arrays import NUMPY
from infra.weights.layout import Dtype
from services.aggregator.rules.means import FLOATS
from services.aggregator.rules.networks import network
from services.aggregator.rules.rank import median, trimmed_mean, window_mean
from services.aggregator.rules.refusals import NoUpdates

Row = NDArray[Any]
Number = int | float

INTEGERS = [dtype for dtype in Dtype if dtype not in FLOATS and dtype != Dtype.BOOL]
BITS = {Dtype.F64: 64, Dtype.F32: 32, Dtype.F16: 16, Dtype.BF16: 16}


def middle(values: list[Number]) -> list[Number]:
    return [values[(len(values) - 1) // 2], values[len(values) // 2]]


def nearest(values: list[Number], keep: int) -> list[Number]:
    centre = sum(Fraction(value) for value in middle(values)) / 2
    chosen = sorted(values, key=lambda value: (abs(Fraction(value) - centre), value))[:keep]
    return sorted(chosen)


def float_mean(values: Sequence[Number]) -> float:
    return list(itertools.accumulate(float(value) for value in values))[-1] / len(values) + 0.0


def any_mean(dtype: Dtype, values: Sequence[Number]) -> Number:
    if dtype in FLOATS:
        return float_mean(values)
    exact = sum(Fraction(value) for value in values) / len(values)
    return exact > Fraction(1, 2) if dtype == Dtype.BOOL else round(exact)


def some_rows(dtype: Dtype, rows: int, size: int, seed: int, few: int | None = None) -> list[Row]:
    """Any finite bits below 2**480, zeros of both signs among them; or only a few different values."""
    random = np.random.default_rng(seed)
    raw = random.integers(0, 256, (rows, size, dtype.itemsize), np.uint8)
    if dtype == Dtype.BOOL:
        return list((raw[:, :, 0] & 1).astype(np.bool_))
    values = raw.view(NUMPY[dtype])[:, :, 0]
    if dtype in FLOATS:
        with np.errstate(all="ignore"):
            wide = values.astype(np.float64)
        values[~(np.abs(wide) < 2.0**480)] = 0
        values[random.random(values.shape) < 0.1] = -0.0
    if few is not None:
        values = values.reshape(-1)[random.integers(0, min(few, values.size), values.shape)]
    return list(values)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Dtype, list[Row]]:
    dtype = draw(st.sampled_from(Dtype))
    rows, size = draw(st.integers(1, 20) | st.integers(120, 140)), draw(st.integers(1, 9))
    few = draw(st.none() | st.integers(1, 6))
    return dtype, some_rows(dtype, rows, size, draw(st.integers(0, 2**32)), few)


def columns(rows: list[Row]) -> list[list[Number]]:
    return [sorted(column) for column in zip(*(row.tolist() for row in rows), strict=True)]


def same(dtype: Dtype, found: Row, expected: list[Number]) -> bool:
    as_dtype = np.dtype(np.float64) if dtype in FLOATS else NUMPY[dtype]
    return found.dtype == as_dtype and found.tobytes() == np.array(expected, as_dtype).tobytes()


@given(cases())
def test_the_median_is_the_middle_value_or_half_the_sum_of_the_two(case: tuple[Dtype, list[Row]]) -> None:
    dtype, rows = case
    assert same(dtype, median(rows), [any_mean(dtype, middle(column)) for column in columns(rows)])


@given(cases(), st.data())
def test_the_trimmed_mean_drops_as_many_from_both_ends(
    case: tuple[Dtype, list[Row]], data: st.DataObject
) -> None:
    dtype, rows = case
    cut = data.draw(st.integers(0, (len(rows) - 1) // 2))
    expected = [any_mean(dtype, column[cut : len(rows) - cut]) for column in columns(rows)]
    assert same(dtype, trimmed_mean(rows, cut), expected)


@given(cases(), st.data())
def test_the_window_holds_the_values_nearest_to_the_median(
    case: tuple[Dtype, list[Row]], data: st.DataObject
) -> None:
    dtype, rows = case
    keep = data.draw(st.integers(1, len(rows)))
    expected = [any_mean(dtype, nearest(column, keep)) for column in columns(rows)]
    assert same(dtype, window_mean(rows, keep), expected)


@pytest.mark.parametrize("dtype", INTEGERS)
@given(st.data())
def test_integers_are_exact_at_the_limits_of_their_dtype(dtype: Dtype, data: st.DataObject) -> None:
    limits = np.iinfo(NUMPY[dtype].name)
    edges = st.sampled_from([limits.min, limits.min + 1, limits.max - 1, limits.max])
    values = data.draw(st.lists(edges, min_size=1, max_size=9))
    rows = [np.array([value], NUMPY[dtype]) for value in values]
    keep = data.draw(st.integers(1, len(rows)))
    values.sort()
    assert median(rows).tolist() == [any_mean(dtype, middle([*values]))]
    assert trimmed_mean(rows, 0).tolist() == [any_mean(dtype, values)]
    assert window_mean(rows, keep).tolist() == [any_mean(dtype, nearest([*values], keep))]


def test_which_value_is_nearer_is_decided_beyond_the_last_bit_of_a_sum() -> None:
    rows = [np.array([value]) for value in (-1e10, 0.0, 1e10 + 2e-6, 1e-7)]
    assert window_mean(rows, 3).tolist() == [float_mean(nearest([-1e10, 0.0, 1e-7, 1e10 + 2e-6], 3))]


@pytest.mark.parametrize("dtype", [Dtype.F32, Dtype.BF16, Dtype.I64])
@pytest.mark.parametrize("rows", [5, 130])
def test_neither_the_cut_nor_the_order_of_the_rows_changes_a_bit(dtype: Dtype, rows: int) -> None:
    given_rows = some_rows(dtype, rows, 40_000, rows)
    rules: list[Callable[[list[Row]], Row]] = [
        median,
        lambda r: trimmed_mean(r, 2),
        lambda r: window_mean(r, 3),
    ]
    for rule in rules:
        pieces = [rule([row[at : at + 1_237] for row in given_rows]) for at in range(0, 40_000, 1_237)]
        assert rule(given_rows[::-1]).tobytes() == b"".join(piece.tobytes() for piece in pieces)


def test_rows_are_read_only() -> None:
    rows = some_rows(Dtype.F32, 6, 10, 1)
    before = [row.copy() for row in rows]
    for row in rows:
        row.flags.writeable = False
    assert window_mean(rows, 2).shape == median(rows).shape == trimmed_mean(rows, 1).shape == (10,)
    assert all(row.tobytes() == copy.tobytes() for row, copy in zip(rows, before, strict=True))


@pytest.mark.parametrize("rows", range(1, 12))
def test_every_network_puts_every_row_of_zeros_and_ones_right(rows: int) -> None:
    """A network that sorts all zeros and ones sorts all values."""
    lines = list(np.array(list(itertools.product([0, 1], repeat=rows)), np.int8).T.copy())
    for first, last in itertools.combinations_with_replacement(range(rows), 2):
        plan = network(rows, first, last)
        places = [*lines, *np.empty((plan.buffers, 2**rows), np.int8)]
        for is_minimum, a, b, out in plan.operations:
            (np.minimum if is_minimum else np.maximum)(places[a], places[b], out=places[out])
        found = np.array([places[place] for place in plan.results])
        assert (found == np.sort(lines, axis=0)[first : last + 1]).all()
        assert all(out >= rows for _, _, _, out in plan.operations)


def test_only_what_the_wanted_ranks_need_is_compared() -> None:
    assert len(network(16, 7, 8).operations) <= 92 < len(network(16, 0, 15).operations) == 126
    assert network(16, 7, 8).buffers <= 17


def test_no_rows_have_no_median_and_too_much_is_not_cut() -> None:
    row = np.zeros(3)
    with pytest.raises(NoUpdates):
        median([])
    with pytest.raises(ValueError, match="leaves nothing"):
        trimmed_mean([row, row], 1)
    with pytest.raises(ValueError, match="no 3 of 2 rows"):
        window_mean([row, row], 3)


@pytest.mark.parametrize("other", [np.zeros(1), np.zeros(3, np.float32), np.zeros((3, 1))])
def test_rows_that_numpy_would_make_fit_are_turned_away(other: Row) -> None:
    with pytest.raises(ValueError, match="differ"):
        median([np.zeros(3), other])


def test_rows_may_be_empty() -> None:
    assert median([np.zeros(0, np.float32)] * 4).shape == (0,)
