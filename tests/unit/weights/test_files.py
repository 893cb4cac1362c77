from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.weights.files import canonicalise, read_layout
from infra.weights.layout import Dtype, Layout, Tensor, canonical
from infra.weights.refusals import HeaderDiffers, MalformedWeights, WeightsPadded, WeightsTruncated
from tests.unit.weights.strategies import file_of, layouts
from tests.unit.weights.test_header import described

MODEL = canonical([Tensor("w", Dtype.F32, (2, 3)), Tensor("b", Dtype.F32, (3,)), Tensor("n", Dtype.I64, ())])
USING_TMP_PATH = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@USING_TMP_PATH
@given(layouts(), st.integers(0, 2**32))
def test_the_layout_of_a_whole_file_is_read(tmp_path: Path, layout: Layout, seed: int) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(file_of(layout, seed))
    assert read_layout(file) == layout


def test_a_file_in_another_order_and_with_metadata_becomes_canonical(tmp_path: Path) -> None:
    state = {"w": torch.randn(2, 3), "b": torch.randn(3), "n": torch.tensor(7)}
    w, b, n = (tensor.numpy().tobytes() for tensor in state.values())
    header = described(
        __metadata__={"format": "pt"},
        b={"dtype": "F32", "shape": [3], "data_offsets": [0, 12]},
        n={"dtype": "I64", "shape": [], "data_offsets": [12, 20]},
        w={"dtype": "F32", "shape": [2, 3], "data_offsets": [20, 44]},
    )
    (tmp_path / "source").write_bytes(header + b + n + w)
    canonicalise(tmp_path / "source", MODEL, tmp_path / "canonical")
    assert (tmp_path / "canonical").read_bytes() == safetensors.torch.save(state)


@pytest.mark.parametrize(
    ("tensors", "difference"),
    [
        ([Tensor("w", Dtype.F32, (2, 3)), Tensor("b", Dtype.F32, (3,))], "'n' is missing"),
        ([*MODEL.tensors, Tensor("x", Dtype.U8, ())], "'x' is not part of it"),
        ([Tensor("w", Dtype.F16, (2, 3)), *MODEL.tensors[:2]], "'w' has dtype F16, not F32"),
        ([Tensor("w", Dtype.F32, (3, 2)), *MODEL.tensors[:2]], r"'w' has shape \[3, 2\], not \[2, 3\]"),
    ],
)
def test_another_model_is_refused_and_the_first_difference_named(
    tmp_path: Path, tensors: list[Tensor], difference: str
) -> None:
    (tmp_path / "source").write_bytes(file_of(canonical(tensors), seed=1))
    with pytest.raises(HeaderDiffers, match=difference):
        canonicalise(tmp_path / "source", MODEL, tmp_path / "canonical")


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        (lambda whole: whole[:-1], WeightsTruncated),
        (lambda whole: whole[:20], WeightsTruncated),
        (lambda whole: whole[:5], MalformedWeights),
        (lambda whole: whole + b"\0", WeightsPadded),
        (lambda whole: b"", MalformedWeights),
        (lambda whole: b"\x80" + whole[1:], MalformedWeights),
    ],
)
def test_a_file_that_is_not_exactly_its_tensors_is_refused(
    tmp_path: Path, change: Callable[[bytes], bytes], refusal: type[Exception]
) -> None:
    (tmp_path / "source").write_bytes(change(file_of(MODEL, seed=1)))
    with pytest.raises(refusal):
        read_layout(tmp_path / "source")
