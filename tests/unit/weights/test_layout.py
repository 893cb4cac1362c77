from random import Random

import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from infra.weights.header import header_size, parse_header
from infra.weights.layout import MAX_ELEMENTS, Dtype, Layout, Tensor, canonical, shards
from infra.weights.refusals import MalformedWeights
from tests.unit.weights.strategies import layouts

TORCH = {
    Dtype.F64: torch.float64,
    Dtype.F32: torch.float32,
    Dtype.F16: torch.float16,
    Dtype.BF16: torch.bfloat16,
    Dtype.I64: torch.int64,
    Dtype.I32: torch.int32,
    Dtype.I16: torch.int16,
    Dtype.I8: torch.int8,
    Dtype.U64: torch.uint64,
    Dtype.U32: torch.uint32,
    Dtype.U16: torch.uint16,
    Dtype.U8: torch.uint8,
    Dtype.BOOL: torch.bool,
}


@given(layouts(), st.randoms(use_true_random=False))
def test_the_canonical_header_is_what_safetensors_writes_whatever_the_order(
    layout: Layout, random: Random
) -> None:
    tensors = list(layout.tensors)
    random.shuffle(tensors)
    state = {tensor.name: torch.zeros(tensor.shape, dtype=TORCH[tensor.dtype]) for tensor in tensors}
    written = safetensors.torch.save(state)
    assert written[: header_size(written[:8])] == layout.header
    assert len(written) == layout.size


@given(layouts())
def test_a_canonical_header_reads_back_as_its_layout(layout: Layout) -> None:
    assert parse_header(layout.header) == layout
    assert layout.is_canonical


@given(layouts(), st.integers(1, 30))
def test_shards_cover_the_data_once_and_split_no_element(layout: Layout, eighths: int) -> None:
    cut = shards(layout.data_size, 8 * eighths)
    assert [byte for shard in cut for byte in shard] == list(range(layout.data_size))
    assert all(len(shard) == 8 * eighths for shard in cut[:-1])
    for tensor in layout.tensors:
        assert all(
            (shard.start - tensor.begin) % tensor.dtype.itemsize == 0
            for shard in cut
            if shard.start < tensor.end
        )


def test_a_model_without_numbers_is_one_empty_shard() -> None:
    assert shards(0, 8) == (range(0, 0),)


@pytest.mark.parametrize("shard_bytes", [0, -8, 12, 7])
def test_shards_are_whole_multiples_of_the_largest_element(shard_bytes: int) -> None:
    with pytest.raises(ValueError, match="multiple of 8"):
        shards(100, shard_bytes)


@pytest.mark.parametrize("name", ["", "a" * 513, "red\x1b[31m", "line\nbreak", "__metadata__", "\ud800"])
def test_a_tensor_name_is_printable_and_of_sane_length(name: str) -> None:
    with pytest.raises(MalformedWeights, match="no tensor name"):
        Tensor(name, Dtype.F32, (1,))


@pytest.mark.parametrize("shape", [(-1,), (1,) * 33, (0, 2 * MAX_ELEMENTS), (MAX_ELEMENTS, 2)])
def test_a_shape_is_one_that_a_model_can_have(shape: tuple[int, ...]) -> None:
    with pytest.raises(MalformedWeights, match="shape of 'w'"):
        Tensor("w", Dtype.F32, shape)


def test_no_more_than_twenty_thousand_tensors_are_admitted() -> None:
    with pytest.raises(MalformedWeights, match="at most 20000"):
        canonical(Tensor(str(i), Dtype.U8, (0,)) for i in range(20_001))
