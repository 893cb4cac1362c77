import hashlib
import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from infra.weights.layout import Dtype, Layout, Tensor, canonical, shards
from infra.weights.refusals import (
    DigestDiffers,
    HeaderDiffers,
    MalformedWeights,
    NotBoolean,
    NotFinite,
    ValueTooLarge,
    WeightsPadded,
    WeightsTruncated,
)
from services.aggregator.inspection import Inspection, inspect
from tests.unit.aggregator.chunking import chunk_sizes, chunked
from tests.unit.weights.strategies import FLOATS, arrays_of, file_of, layouts
from tests.unit.weights.test_header import described

MODEL = canonical(
    [
        Tensor("empty", Dtype.F32, (0, 3)),
        Tensor("layer.weight", Dtype.F32, (4, 5)),
        Tensor("layer.wide", Dtype.F64, (3,)),
        Tensor("mask", Dtype.BOOL, (6,)),
        Tensor("small", Dtype.BF16, (7,)),
    ]
)


def inspected(file: bytes, sizes: list[int], layout: Layout = MODEL, shard_bytes: int = 16) -> Inspection:
    return inspect(chunked(file, sizes), layout, hashlib.sha256(file).hexdigest(), shard_bytes)


def with_element(name: str, index: int, raw: bytes) -> bytes:
    file = bytearray(file_of(MODEL, seed=1))
    tensor = next(tensor for tensor in MODEL.tensors if tensor.name == name)
    at = MODEL.header_size + tensor.begin + index * tensor.dtype.itemsize
    file[at : at + len(raw)] = raw
    return bytes(file)


@given(layouts(), st.integers(0, 2**32), chunk_sizes, st.integers(1, 9))
def test_the_figures_of_a_sane_update_do_not_depend_on_its_chunks(
    layout: Layout, seed: int, sizes: list[int], eighths: int
) -> None:
    file = file_of(layout, seed)
    data = file[layout.header_size :]
    found = inspected(file, sizes, layout, 8 * eighths)
    assert found == inspected(file, [len(file)], layout, 8 * eighths)
    assert found.size == len(file)
    assert found.digests == tuple(
        blake3(data[shard.start : shard.stop]).hexdigest() for shard in shards(len(data), 8 * eighths)
    )


@given(layouts(), st.integers(0, 2**32))
def test_the_norm_is_that_of_all_floating_point_numbers(layout: Layout, seed: int) -> None:
    arrays = arrays_of(layout, seed)
    floats = [arrays[t.name].astype(np.float64).ravel() for t in layout.tensors if t.dtype in FLOATS]
    squares = [float(number) ** 2 for array in floats for number in array]
    assert inspected(file_of(layout, seed), [50], layout).norm == pytest.approx(math.sqrt(math.fsum(squares)))


def test_the_norm_of_many_blocks_is_summed_place_by_place() -> None:
    layout = canonical([Tensor("w", Dtype.F32, (100_000,)), Tensor("v", Dtype.F16, (100_001,))])
    ones = np.ones(100_000, np.float32).tobytes() + np.full(100_001, 2, np.float16).tobytes()
    assert inspected(layout.header + ones, [70_001], layout).norm == math.sqrt(100_000 + 4 * 100_001)


QUIET, SIGNALLING, INFINITE = b"\0\0\xc0\x7f", b"\1\0\x80\x7f", b"\0\0\x80\xff"


@pytest.mark.parametrize(
    ("name", "index", "raw", "refusal"),
    [
        ("layer.weight", 0, QUIET, NotFinite),
        ("layer.weight", 19, SIGNALLING, NotFinite),
        ("layer.weight", 7, INFINITE, NotFinite),
        ("small", 6, b"\x80\x7f", NotFinite),
        ("layer.wide", 2, np.float64(math.nan).tobytes(), NotFinite),
        ("layer.wide", 1, np.float64(-(2.0**480)).tobytes(), ValueTooLarge),
        ("layer.wide", 1, np.float64(1.7e308).tobytes(), ValueTooLarge),
        ("mask", 5, b"\x02", NotBoolean),
        ("mask", 0, b"\xff", NotBoolean),
    ],
)
def test_a_number_that_would_poison_the_model_is_refused_and_its_place_named(
    name: str, index: int, raw: bytes, refusal: type[Exception]
) -> None:
    with pytest.raises(refusal, match=f"tensor '{name}' .* index {index}$"):
        inspected(with_element(name, index, raw), [13])


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        (lambda file: file[:-1], WeightsTruncated),
        (lambda file: file[: MODEL.header_size], WeightsTruncated),
        (lambda file: file[:100], WeightsTruncated),
        (lambda file: file[:5], MalformedWeights),
        (lambda file: b"", MalformedWeights),
        (lambda file: file + b"\0", WeightsPadded),
        (lambda file: b"\x80\x02" + file, MalformedWeights),
        (lambda file: file.replace(b"layer.weight", b"layer.weighs"), HeaderDiffers),
        (lambda file: file.replace(b"[4,5]", b"[5,4]"), HeaderDiffers),
        (lambda file: file.replace(b"mask", b"\x1b[1m"), MalformedWeights),
        (lambda file: described(__metadata__={"format": "pt"}), HeaderDiffers),
    ],
)
def test_a_file_that_is_not_the_trainings_is_refused(
    change: Callable[[bytes], bytes], refusal: type[Exception]
) -> None:
    with pytest.raises(refusal):
        inspected(change(file_of(MODEL, seed=1)), [17])


def test_a_file_other_than_the_announced_one_is_refused() -> None:
    with pytest.raises(DigestDiffers):
        inspect([file_of(MODEL, seed=1)], MODEL, "0" * 64, 16)


def test_a_padded_file_is_refused_without_reading_it_to_its_end() -> None:
    def endless() -> Iterator[bytes]:
        yield file_of(MODEL, seed=1)
        yield b"\0"
        raise AssertionError("read on")

    with pytest.raises(WeightsPadded):
        inspect(endless(), MODEL, "0" * 64, 16)
