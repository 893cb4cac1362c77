import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from infra.weights.arrays import NUMPY
from infra.weights.layout import Dtype, Layout, Tensor, canonical, shards
from infra.weights.parts import FLOATS, pieces, ranges, update_layout
from infra.weights.refusals import (
    DeltaTooLarge,
    HeaderDiffers,
    MalformedWeights,
    NotBoolean,
    NotFinite,
    ValueTooLarge,
    WeightsPadded,
    WeightsTruncated,
)
from schemas.words import Extra, UpdateKind
from services.aggregator.inspecting.inspection import Terms, inspect
from services.aggregator.inspecting.numbers import ModelNotUsable
from tests.unit.aggregator.chunking import chunk_sizes
from tests.unit.aggregator.inspected import SHARD_BYTES, a_model, data_of, inspected, update_of
from tests.unit.weights.strategies import file_of, layouts
from tests.unit.weights.test_header import described

MODEL = canonical(
    [
        Tensor("empty", Dtype.F32, (0, 3)),
        Tensor("layer.scale", Dtype.F32, ()),
        Tensor("layer.weight", Dtype.F32, (4, 5)),
        Tensor("layer.wide", Dtype.F64, (3,)),
        Tensor("mask", Dtype.BOOL, (6,)),
        Tensor("small", Dtype.BF16, (7,)),
        Tensor("half", Dtype.F16, (5,)),
    ]
)
PLAIN = Terms(SHARD_BYTES)
DELTA = Terms(SHARD_BYTES, UpdateKind.DELTA)


@st.composite
def updates(draw: st.DrawFn) -> tuple[Layout, Terms, tuple[int, ...] | None]:
    """A model, what an update of it must be, and the tensors that one has."""
    model = draw(layouts().filter(lambda layout: all("/" not in t.name for t in layout.tensors)))
    is_partial = bool(model.tensors) and draw(st.booleans())
    terms = Terms(
        shard_bytes=8 * draw(st.integers(1, 9)),
        update=draw(st.sampled_from(UpdateKind)),
        partial=is_partial,
        extra=draw(st.none() | st.sampled_from(Extra)),
        measures=draw(st.booleans()),
    )
    some = st.sets(st.sampled_from(range(len(model.tensors))), min_size=1).map(sorted).map(tuple)
    return model, terms, draw(some) if is_partial else None


def without_large_numbers(file: bytes, layout: Layout) -> bytes:
    """Half of every float's exponent is left, so that sums of two are numbers of the dtype."""
    data = bytearray(data_of(file, layout))
    for tensor in layout.tensors:
        if tensor.dtype in FLOATS:
            values = np.frombuffer(memoryview(data)[tensor.begin : tensor.end], NUMPY[tensor.dtype])
            values[:] = np.sign(values) * np.sqrt(np.abs(values))
    return layout.header + bytes(data)


@given(updates(), st.integers(0, 2**32), chunk_sizes)
def test_the_figures_of_a_sane_update_do_not_depend_on_its_chunks(
    drawn: tuple[Layout, Terms, tuple[int, ...] | None], seed: int, sizes: list[int]
) -> None:
    model, terms, tensors = drawn
    layout = update_layout(model, terms.extra, tensors)
    file = without_large_numbers(update_of(model, terms, seed, tensors), layout)
    current = without_large_numbers(file_of(model, seed + 1), model)
    found = inspected(file, model, terms, sizes=sizes, model=current)
    assert found == inspected(file, model, terms, sizes=[len(file)], model=current)
    assert found.tensors == (None if tensors and len(tensors) == len(model.tensors) else tensors)


@given(updates(), st.integers(0, 2**32), chunk_sizes)
def test_a_shards_digest_is_that_of_what_the_file_holds_of_it(
    drawn: tuple[Layout, Terms, tuple[int, ...] | None], seed: int, sizes: list[int]
) -> None:
    model, terms, tensors = drawn
    layout = update_layout(model, terms.extra, tensors)
    file = without_large_numbers(update_of(model, terms, seed, tensors), layout)
    data = data_of(file, layout)
    expected = [
        blake3(b"".join(data[part.start : part.stop] for part in ranges(pieces(model, layout, span))))
        for span in shards(model.data_size, terms.shard_bytes)
    ]
    found = inspected(file, model, terms, sizes=sizes, model=model.header + bytes(model.data_size))
    assert found.digests == tuple(digest.hexdigest() for digest in expected)


def numbers_in(file: bytes, layout: Layout) -> dict[str, NDArray[np.float64]]:
    data = data_of(file, layout)
    return {
        tensor.name: np.frombuffer(data[tensor.begin : tensor.end], NUMPY[tensor.dtype]).astype(np.float64)
        for tensor in layout.tensors
        if tensor.dtype in FLOATS
    }


def length(arrays: list[NDArray[np.float64]]) -> float:
    """In exact arithmetic, rounded at the end."""
    total = sum((Fraction(x) ** 2 for array in arrays for x in array.ravel().tolist()), Fraction(0))
    return math.isqrt(round(total * 2**2200)) / 2**1100 if total < 1 else math.sqrt(total)


@given(updates(), st.integers(0, 2**32))
def test_norm_and_distance_are_over_all_floating_point_tensors_of_the_model(
    drawn: tuple[Layout, Terms, tuple[int, ...] | None], seed: int
) -> None:
    model, terms, tensors = drawn
    layout = update_layout(model, terms.extra, tensors)
    file = without_large_numbers(update_of(model, terms, seed, tensors), layout)
    current = without_large_numbers(file_of(model, seed + 1), model)
    sent, held = numbers_in(file, layout), numbers_in(current, model)
    own = [name for name in held if name in sent]
    found = inspected(file, model, terms, model=current)
    norm = length([sent[name] for name in own])
    assert found.norm == pytest.approx(norm, rel=1e-14)
    if not terms.measures:
        assert found.distance is None
    elif terms.update is UpdateKind.DELTA:
        assert found.distance == found.norm
    else:
        moved = length([sent[name] - held[name] for name in own])
        assert found.distance == pytest.approx(moved, rel=1e-14)


def test_the_norm_of_many_blocks_is_summed_place_by_place() -> None:
    layout = canonical([Tensor("w", Dtype.F32, (100_000,)), Tensor("v", Dtype.F16, (100_001,))])
    ones = np.ones(100_000, np.float32).tobytes() + np.full(100_001, 2, np.float16).tobytes()
    threes = np.full(100_000, 3, np.float32).tobytes() + np.full(100_001, 5, np.float16).tobytes()
    terms = Terms(1 << 20, measures=True)
    found = inspected(layout.header + ones, layout, terms, sizes=[70_001], model=layout.header + threes)
    assert found.norm == math.sqrt(100_000 + 4 * 100_001)
    assert found.distance == math.sqrt(4 * 100_000 + 9 * 100_001)


def test_an_update_that_is_the_model_has_not_moved() -> None:
    file = file_of(MODEL, seed=3)
    assert inspected(file, MODEL, Terms(SHARD_BYTES, measures=True), model=file).distance == 0.0


def test_a_shard_of_which_nothing_was_sent_has_the_digest_of_nothing() -> None:
    terms = Terms(SHARD_BYTES, partial=True)
    (place,) = (i for i, tensor in enumerate(MODEL.tensors) if tensor.name == "mask")
    found = inspected(update_of(MODEL, terms, 1, [place]), MODEL, terms)
    assert found.tensors == (place,)
    assert found.digests.count(blake3().hexdigest()) == len(found.digests) - 1


def test_a_partial_update_reads_of_the_model_only_what_lies_near_its_tensors() -> None:
    floats = [Tensor(name, Dtype.F32, (1 << 20,)) for name in "abcdef"]
    large = canonical([*floats, Tensor("n", Dtype.I64, (9,))])
    terms = Terms(8 << 20, partial=True, measures=True)
    layout = update_layout(large, tensors=(2, 3, 6))
    asked: list[range] = []
    read = a_model(bytes(large.data_size), [1 << 20])

    def current(span: range) -> Any:
        asked.append(span)
        return read(span)

    file = layout.header + bytes(layout.data_size)
    inspect([file], len(file), large, terms, current=current)
    begins = [tensor.begin for tensor in large.tensors]
    assert asked == [range(begins[2], begins[4]), range(begins[6], large.data_size)]


QUIET, SIGNALLING, INFINITE = b"\0\0\xc0\x7f", b"\1\0\x80\x7f", b"\0\0\x80\xff"


def with_element(file: bytes, layout: Layout, place: tuple[str, int], raw: bytes) -> bytes:
    name, index = place
    tensor = next(tensor for tensor in layout.tensors if tensor.name == name)
    at = layout.header_size + tensor.begin + index * tensor.dtype.itemsize
    return file[:at] + raw + file[at + len(raw) :]


INSANE = [
    ("layer.weight", 0, QUIET, NotFinite),
    ("layer.weight", 19, SIGNALLING, NotFinite),
    ("layer.weight", 7, INFINITE, NotFinite),
    ("layer.scale", 0, INFINITE, NotFinite),
    ("small", 6, b"\x80\x7f", NotFinite),
    ("half", 4, b"\x01\x7c", NotFinite),
    ("layer.wide", 2, np.float64(math.nan).tobytes(), NotFinite),
    ("layer.wide", 1, np.float64(-(2.0**480)).tobytes(), ValueTooLarge),
    ("layer.wide", 1, np.float64(1.7e308).tobytes(), ValueTooLarge),
    ("mask", 5, b"\x02", NotBoolean),
    ("mask", 0, b"\xff", NotBoolean),
]


@pytest.mark.parametrize("terms", [PLAIN, DELTA, Terms(SHARD_BYTES, measures=True)])
@pytest.mark.parametrize(("name", "index", "raw", "refusal"), INSANE)
def test_a_number_that_would_poison_the_model_is_refused_and_its_place_named(
    name: str, index: int, raw: bytes, refusal: type[Exception], terms: Terms
) -> None:
    file = with_element(MODEL.header + bytes(MODEL.data_size), MODEL, (name, index), raw)
    with pytest.raises(refusal, match=f"tensor '{name}' .* index {index}$"):
        inspected(file, MODEL, terms)


def test_the_largest_number_that_is_admitted_is_not_refused() -> None:
    raw = np.nextafter(2.0**480, 0).tobytes()
    inspected(with_element(file_of(MODEL, seed=1), MODEL, ("layer.wide", 2), raw), MODEL)


def test_an_extra_must_be_finite_too() -> None:
    terms = Terms(SHARD_BYTES, extra=Extra.CONTROL)
    layout = update_layout(MODEL, Extra.CONTROL)
    file = with_element(update_of(MODEL, terms, 1), layout, ("control/small", 3), b"\x80\x7f")
    with pytest.raises(NotFinite, match=r"tensor 'control/small' .* index 3$"):
        inspected(file, MODEL, terms)


LIMITS = [  # of each dtype the largest number, and half a step beyond it
    ("half", 65504.0, 16.0),
    ("small", float(2**128 - 2**120), 2.0**119),
    ("layer.weight", float(2**128 - 2**104), 2.0**103),
    ("layer.wide", float(np.nextafter(2.0**480, 0)), 2.0**426),
]


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("name", "large", "step"), LIMITS)
def test_a_delta_that_leads_beyond_the_numbers_of_its_dtype_is_refused_and_its_place_named(
    name: str, large: float, step: float, sign: int
) -> None:
    (tensor,) = (tensor for tensor in MODEL.tensors if tensor.name == name)
    zeros, number = MODEL.header + bytes(MODEL.data_size), NUMPY[tensor.dtype].type

    def with_number(value: float) -> bytes:
        return with_element(zeros, MODEL, (name, 2), number(value).tobytes())

    model = with_number(sign * large)
    with pytest.raises(DeltaTooLarge, match=f"tensor '{name}' .* index 2$"):
        inspected(with_number(sign * step), MODEL, DELTA, model=model)
    assert inspected(with_number(sign * step / 2), MODEL, DELTA, model=model).norm == step / 2


def test_a_model_that_ends_too_early_or_is_not_finite_is_a_fault_and_nobody_is_blamed() -> None:
    file, terms = file_of(MODEL, seed=1), Terms(SHARD_BYTES, measures=True)
    with pytest.raises(ModelNotUsable, match="too early"):
        inspected(file, MODEL, terms, model=file[:-20])
    with pytest.raises(ModelNotUsable, match="no update could have"):
        inspected(file, MODEL, terms, model=with_element(file, MODEL, ("layer.weight", 1), QUIET))


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        (lambda file: file[:-1], WeightsTruncated),
        (lambda file: file[: MODEL.header_size], WeightsTruncated),
        (lambda file: file[:100], WeightsTruncated),
        (lambda file: b"", WeightsTruncated),
        (lambda file: file + b"\0", WeightsPadded),
        (lambda file: b"\x80\x02}" + file[3:], MalformedWeights),
        (lambda file: file.replace(b"layer.weight", b"layer.weighs"), HeaderDiffers),
        (lambda file: file.replace(b"[4,5]", b"[5,4]"), HeaderDiffers),
        (lambda file: file.replace(b"mask", b"\x1b[1m"), MalformedWeights),
    ],
)
def test_a_file_that_is_not_the_trainings_is_refused(
    change: Callable[[bytes], bytes], refusal: type[Exception]
) -> None:
    with pytest.raises(refusal):
        inspected(change(file_of(MODEL, seed=1)), MODEL, sizes=[17])


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        (lambda file: file[:-1], WeightsTruncated),
        (lambda file: file[:100], WeightsTruncated),
        (lambda file: b"", MalformedWeights),
        (lambda file: file + b"\0", WeightsPadded),
        (lambda file: described(__metadata__={"format": "pt"}), HeaderDiffers),
    ],
)
def test_a_partial_update_has_the_size_that_its_header_says(
    change: Callable[[bytes], bytes], refusal: type[Exception]
) -> None:
    terms = Terms(SHARD_BYTES, partial=True)
    with pytest.raises(refusal):
        inspected(change(update_of(MODEL, terms, 1, [0, 2])), MODEL, terms, sizes=[17])


@pytest.mark.parametrize("terms", [PLAIN, Terms(SHARD_BYTES, partial=True)])
def test_a_stream_that_is_not_as_long_as_announced_is_refused_without_reading_it_to_its_end(
    terms: Terms,
) -> None:
    file, model = file_of(MODEL, seed=1), a_model(b"")

    def endless() -> Iterator[bytes]:
        yield file
        yield b"\0"
        raise AssertionError("read on")

    with pytest.raises(WeightsPadded):
        inspect(endless(), len(file), MODEL, terms, current=model)
    for end in (len(file) - 1, MODEL.header_size - 1):
        with pytest.raises(WeightsTruncated):
            inspect([file[:end]], len(file), MODEL, terms, current=model)


def test_an_update_with_nothing_odd_about_it_does_not_ask_for_the_model() -> None:
    def nobody(span: range) -> Any:
        raise AssertionError("asked for")

    file = file_of(MODEL, seed=1)
    inspect([file], len(file), MODEL, PLAIN, current=nobody)


def test_a_model_without_data_has_one_shard_of_nothing() -> None:
    nothing = canonical([Tensor("none", Dtype.F32, (0,))])
    found = inspected(nothing.header, nothing, Terms(SHARD_BYTES, measures=True))
    assert (found.norm, found.distance, found.digests) == (0.0, 0.0, (blake3().hexdigest(),))
