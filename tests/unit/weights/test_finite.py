"""Weights files with numbers nobody can train from."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from infra.weights.files import read_layout
from infra.weights.finite import require_finite
from infra.weights.refusals import NotFinite, ValueTooLarge


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_file_with_a_nan_or_an_infinity_is_refused_and_told_where(
    tmp_path: Path, dtype: torch.dtype, value: float
) -> None:
    path = tmp_path / "weights.safetensors"
    weight = torch.ones(1_100, 1_000, dtype=dtype)
    weight[1_099, 7] = value
    save_file({"count": torch.tensor(-1), "weight": weight}, path)
    with pytest.raises(NotFinite, match=r"'weight' has a NaN or an infinity at flat index 1099007"):
        require_finite(path, read_layout(path))


def test_a_file_with_a_number_that_no_update_may_have_is_refused_and_told_where(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    weight = torch.full((200_000,), -(2.0**479), dtype=torch.float64)
    save_file({"weight": weight}, path)
    require_finite(path, read_layout(path))
    weight[150_000] = -(2.0**480)
    save_file({"weight": weight}, path)
    with pytest.raises(ValueTooLarge, match=r"'weight' .* 2\*\*480 or beyond at flat index 150000"):
        require_finite(path, read_layout(path))


def test_whole_numbers_that_would_read_as_nan_and_empty_tensors_are_no_matter(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"count": torch.tensor([-1]), "none": torch.zeros(0), "weight": torch.ones(3)}, path)
    require_finite(path, read_layout(path))
