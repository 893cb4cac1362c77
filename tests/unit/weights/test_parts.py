from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.weights.layout import Dtype, Layout, Tensor, canonical, shards
from infra.weights.parts import FLOATS, pieces, ranges, slot_layout, update_layout
from infra.weights.refusals import ExtraNameTaken
from schemas.words import Extra, Slot
from tests.unit.weights.strategies import layouts

MODEL = canonical(
    [
        Tensor("a", Dtype.F32, (4,)),
        Tensor("count", Dtype.I64, (2,)),
        Tensor("z", Dtype.F32, (3,)),
        Tensor("half", Dtype.F16, (5,)),
    ]
)
COUNT, A, Z, HALF = range(4)  # places in the model
WHOLE = range(MODEL.data_size)


def names(layout: Layout) -> list[str]:
    return [tensor.name for tensor in layout.tensors]


@st.composite
def files(draw: st.DrawFn) -> tuple[Layout, Layout]:
    """A model and a file that goes with it."""
    model = draw(layouts().filter(lambda layout: "/" not in "".join(names(layout)) and layout.tensors))
    if draw(st.booleans()):
        return model, slot_layout(model, draw(st.sampled_from(Slot)))
    some = draw(st.none() | st.sets(st.sampled_from(range(len(model.tensors))), min_size=1).map(sorted))
    return model, update_layout(model, draw(st.none() | st.sampled_from(Extra)), some)


def test_an_update_without_peculiarities_looks_like_the_model() -> None:
    assert update_layout(MODEL) is MODEL
    assert ranges(pieces(MODEL, MODEL, range(8, 32))) == (range(8, 32),)


def test_a_partial_update_holds_the_tensors_it_names_in_canonical_order() -> None:
    layout = update_layout(MODEL, tensors=(A, HALF))
    assert names(layout) == ["a", "half"]
    assert layout.is_canonical


def test_an_extra_lies_beside_every_floating_point_tensor_with_its_dtype_and_shape() -> None:
    layout = update_layout(MODEL, Extra.CONTROL, (COUNT, Z, HALF))
    assert names(layout) == ["count", "control/z", "z", "control/half", "half"]
    assert layout.is_canonical
    assert [(t.dtype, t.shape) for t in layout.tensors if t.name == "control/half"] == [(Dtype.F16, (5,))]


def test_moments_are_float64_and_controls_are_like_the_model_both_in_its_order() -> None:
    mixed = canonical([Tensor("b", Dtype.F32, (2,)), Tensor("a", Dtype.F16, (3,))])
    moments, controls = slot_layout(mixed, Slot.V), slot_layout(mixed, Slot.CONTROL)
    assert [(t.name, t.dtype, t.begin) for t in moments.tensors] == [
        ("b", Dtype.F64, 0),
        ("a", Dtype.F64, 16),
    ]
    assert [(t.name, t.dtype, t.begin) for t in controls.tensors] == [
        ("b", Dtype.F32, 0),
        ("a", Dtype.F16, 8),
    ]


def test_pieces_say_which_elements_of_which_tensor_lie_where() -> None:
    file = update_layout(MODEL, Extra.CONTROL)  # count, a, control/a, control/z, z, control/half, half
    found = pieces(MODEL, file, range(24, 44))  # a from its third element on, and all of z
    assert [(p.tensor, p.is_extra, p.first, p.elements, p.begin) for p in found] == [
        (A, False, 2, 2, 24),
        (A, True, 2, 2, 40),
        (Z, True, 0, 3, 48),
        (Z, False, 0, 3, 60),
    ]
    assert ranges(found) == (range(24, 32), range(40, 72))


@given(files(), st.integers(1, 20))
def test_the_shards_pieces_cover_every_element_of_a_file_once(
    drawn: tuple[Layout, Layout], eighths: int
) -> None:
    model, file = drawn
    found = list(chain(*(pieces(model, file, span) for span in shards(model.data_size, 8 * eighths))))
    covered = sorted((piece.begin, piece.end) for piece in found)
    assert [begin for begin, _ in covered] == [0, *(end for _, end in covered)][: len(covered)]
    assert sum(piece.size for piece in found) == file.data_size


@given(layouts(), st.sampled_from(Slot), st.integers(1, 20))
def test_a_shard_of_a_state_is_one_range_that_follows_the_one_before(
    model: Layout, slot: Slot, eighths: int
) -> None:
    layout = slot_layout(model, slot)
    found = [ranges(pieces(model, layout, span)) for span in shards(model.data_size, 8 * eighths)]
    assert all(len(each) <= 1 for each in found)
    joined = [each[0] for each in found if each]
    assert [r.start for r in joined] == [0, *(r.stop for r in joined)][: len(joined)]
    assert {tensor.name for tensor in layout.tensors} == {t.name for t in model.tensors if t.dtype in FLOATS}


def test_a_model_whose_names_stand_in_the_way_of_extras_is_refused_for_every_update() -> None:
    model = canonical([Tensor("a", Dtype.F32, ()), Tensor("control/a", Dtype.I64, ())])
    with pytest.raises(ExtraNameTaken, match="'control/a'"):
        update_layout(model, Extra.CONTROL, (0,))
    assert names(update_layout(model, Extra.SECOND_MOMENT)) == ["control/a", "a", "second_moment/a"]
