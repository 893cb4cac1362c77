"""Whether a weights file on disk holds nothing but numbers one can train from."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.weights.arrays import NUMPY
from infra.weights.layout import Dtype, Layout, Tensor
from infra.weights.refusals import MAGNITUDE_LIMIT, NotFinite, ValueTooLarge

_BLOCK = 1 << 20  # a multiple of every element's size
_FLOATS = (Dtype.F64, Dtype.F32, Dtype.F16, Dtype.BF16)


def require_finite(path: Path, layout: Layout) -> None:
    """Refuse a file of this layout with a NaN, an infinity or a number that no update may have.

    Holds one block at a time.
    """
    with path.open("rb") as file:
        for tensor in layout.tensors:
            if tensor.dtype not in _FLOATS:
                continue
            file.seek(layout.header_size + tensor.begin)
            for begin in range(0, tensor.size, _BLOCK):
                block = file.read(min(tensor.size - begin, _BLOCK))
                _check(np.frombuffer(block, NUMPY[tensor.dtype]), tensor, begin // tensor.dtype.itemsize)


def _check(values: NDArray[Any], tensor: Tensor, first: int) -> None:
    """Only float64 has numbers that are finite and too large."""
    is_sane = np.abs(values) < MAGNITUDE_LIMIT if tensor.dtype == Dtype.F64 else np.isfinite(values)
    if not is_sane.all():
        bad = int(np.argmin(is_sane))
        raise (ValueTooLarge if np.isfinite(values[bad]) else NotFinite)(tensor.name, first + bad)
