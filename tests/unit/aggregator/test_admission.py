"""Which headers a round admits."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.weights.layout import Dtype, Layout, Tensor, canonical, in_this_order
from infra.weights.parts import update_layout
from infra.weights.refusals import HeaderDiffers, MalformedWeights
from schemas.words import Extra
from services.aggregator.inspecting.admission import Admission, Admitted
from tests.unit.weights.strategies import layouts

MODEL = canonical(
    [
        Tensor("a", Dtype.F32, (4, 5)),
        Tensor("b", Dtype.F32, (1,)),
        Tensor("count", Dtype.I64, ()),
        Tensor("half", Dtype.F16, (3,)),
    ]
)
COUNT, A, B, HALF = MODEL.tensors
OF_A, OF_HALF = replace(A, name="control/a"), replace(HALF, name="control/half")


def header_of(tensors: Iterable[Tensor]) -> bytes:
    return canonical(tensors).header


@given(layouts().filter(lambda layout: layout.tensors), st.none() | st.sampled_from(Extra), st.data())
def test_any_tensors_of_the_model_with_their_extras_are_admitted_and_named(
    model: Layout, extra: Extra | None, data: st.DataObject
) -> None:
    if any("/" in tensor.name for tensor in model.tensors):
        return
    places = data.draw(st.sets(st.sampled_from(range(len(model.tensors))), min_size=1).map(sorted))
    expected = update_layout(model, extra, places)
    found = Admission(model, extra).some(expected.header)
    assert found.layout == expected
    assert found.tensors == (None if len(places) == len(model.tensors) else tuple(places))


def test_where_all_tensors_are_wanted_some_are_not_enough() -> None:
    assert Admission(MODEL, None).all(MODEL.header).layout == MODEL
    with pytest.raises(HeaderDiffers, match="'half' is missing"):
        Admission(MODEL, None).all(header_of([A, B, COUNT]))


@pytest.mark.parametrize("admit", [Admission.all, Admission.some])
@pytest.mark.parametrize(
    ("tensors", "wrong"),
    [
        ([A, B, COUNT, HALF, replace(A, name="c")], "'c' is not part of it"),
        ([A, replace(B, shape=(5,)), COUNT, HALF], r"'b' has shape \[5\], not \[1\]"),  # would broadcast
        ([A, replace(B, shape=(1, 1)), COUNT, HALF], r"'b' has shape \[1, 1\], not \[1\]"),
        ([A, replace(B, shape=()), COUNT, HALF], r"'b' has shape \[\], not \[1\]"),
        ([replace(A, shape=(5, 4)), B, COUNT, HALF], r"'a' has shape \[5, 4\], not \[4, 5\]"),
        ([A, B, COUNT, replace(HALF, dtype=Dtype.BF16)], "'half' has dtype BF16, not F16"),
        ([A, B, COUNT, HALF, OF_A], "'control/a' is not part of it"),
    ],
)
def test_what_is_not_the_models_is_refused_and_named(
    admit: Callable[[Admission, bytes], Admitted], tensors: list[Tensor], wrong: str
) -> None:
    with pytest.raises(HeaderDiffers, match=wrong):
        admit(Admission(MODEL, None), header_of(tensors))


@pytest.mark.parametrize(
    ("tensors", "wrong"),
    [
        ([A, HALF, OF_A], "'control/half' is missing"),
        ([A, OF_A, OF_HALF], "'control/half' has come without the one it goes with"),
        ([A, replace(OF_A, shape=(20,))], "'control/a' has shape"),
        ([A, replace(OF_A, dtype=Dtype.F64)], "'control/a' has dtype"),
        ([A, OF_A, replace(COUNT, name="control/count")], "'control/count' is not part of it"),
        ([A, OF_A, replace(A, name="second_moment/a")], "'second_moment/a' is not part of it"),
    ],
)
def test_of_a_partial_update_each_tensor_needs_its_own_extra_and_no_other(
    tensors: list[Tensor], wrong: str
) -> None:
    with pytest.raises(HeaderDiffers, match=wrong):
        Admission(MODEL, Extra.CONTROL).some(header_of(tensors))


@pytest.mark.parametrize("tensors", [[], [OF_A], [replace(A, name="c")]])
def test_an_update_with_none_of_the_models_tensors_is_refused(tensors: list[Tensor]) -> None:
    with pytest.raises(HeaderDiffers, match="none of its tensors"):
        Admission(MODEL, Extra.CONTROL).some(header_of(tensors))


def test_a_header_that_is_not_canonical_is_refused() -> None:
    with pytest.raises(HeaderDiffers, match="another order"):
        Admission(MODEL, None).some(in_this_order([B, A]).header)


def test_a_header_that_is_none_is_refused() -> None:
    with pytest.raises(MalformedWeights):
        Admission(MODEL, None).some((8).to_bytes(8, "little") + b"{}}     ")
