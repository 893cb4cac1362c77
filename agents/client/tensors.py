"""Weights files as what a trainer class works with: torch tensors if it imported torch, else numpy arrays."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from infra.weights.arrays import DTYPES, NUMPY
from infra.weights.files import read_layout
from infra.weights.layout import Tensor, canonical

Weights = Mapping[str, Any]  # torch tensors or numpy arrays


def load(path: Path) -> dict[str, Any]:
    """Copies: the trainer may change them in place."""
    if "torch" in sys.modules:
        from safetensors.torch import load_file  # noqa: PLC0415 -- only once the user's module wants torch

        return dict(load_file(path))
    layout = read_layout(path)
    stored = path.read_bytes()
    return {tensor.name: _array(tensor, stored, layout.header_size) for tensor in layout.tensors}


def save(weights: Weights, path: Path) -> None:
    if "torch" in sys.modules:
        from safetensors.torch import save_file  # noqa: PLC0415 -- as above

        save_file({name: _alone(tensor) for name, tensor in weights.items()}, path)
        return
    arrays = {name: np.asarray(value, order="C") for name, value in weights.items()}
    layout = canonical(Tensor(name, DTYPES[value.dtype], value.shape) for name, value in arrays.items())
    with path.open("wb") as file:
        file.write(layout.header)
        for tensor in layout.tensors:
            file.write(arrays[tensor.name].tobytes())


def _array(tensor: Tensor, stored: bytes, begin: int) -> Any:
    values = np.frombuffer(stored[begin + tensor.begin : begin + tensor.end], NUMPY[tensor.dtype])
    return values.reshape(tensor.shape).copy()


def _alone(tensor: Any) -> Any:
    """A tensor that shares memory with no other, as the file format wants it."""
    torch = sys.modules["torch"]
    return torch.as_tensor(tensor).detach().cpu().contiguous().clone()
