"""Forms: repeated names, free text."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.api.errors import BadInput
from services.api.forms import input_shape, measurements


@pytest.mark.parametrize(
    ("sent", "shape"),
    [
        ([], None),
        ([""], None),
        (["None", "1", "28", "28"], (None, 1, 28, 28)),
        (["null", "3"], (None, 3)),
        (["none,1,28"], (None, 1, 28)),
        (["[None, 3]"], (None, 3)),
    ],
)
def test_a_shape_is_sent_as_repeated_fields_or_as_one(
    sent: list[str], shape: tuple[int | None, ...] | None
) -> None:
    assert input_shape(sent) == shape


@pytest.mark.parametrize("sent", [["0"], ["-1"], ["1.5"], ["²"], ["x"], ["9" * 5_000], ["1"] * 33])
def test_what_is_no_dimension_is_named(sent: list[str]) -> None:
    with pytest.raises(BadInput) as refused:
        input_shape(sent)
    assert "input_shape" in refused.value.fields


@given(st.lists(st.text()))
def test_any_text_is_a_shape_or_refused(sent: list[str]) -> None:
    try:
        shape = input_shape(sent)
    except BadInput:
        return
    assert shape is None or all(size is None or size > 0 for size in shape)


@given(st.floats())
def test_only_finite_numbers_are_numbers(value: float) -> None:
    (one,) = measurements(["loss"], [repr(value)])
    assert (one.number, one.raw) == ((value, None) if math.isfinite(value) else (None, repr(value).encode()))


@given(st.lists(st.text(), max_size=3), st.lists(st.text() | st.binary(), max_size=3))
def test_any_names_and_values_are_metrics_or_refused(names: list[str], values: list[str | bytes]) -> None:
    try:
        found = measurements(names, values)
    except BadInput:
        return
    assert [one.key for one in found] == names
