"""Whether a weights file on disk holds nothing but numbers one can train from."""

from pathlib import Path

import numpy as np

from infra.weights.arrays import NUMPY
from infra.weights.layout import Dtype, Layout
from infra.weights.refusals import NotFinite

_BLOCK = 1 << 20  # a multiple of every element's size
_FLOATS = (Dtype.F64, Dtype.F32, Dtype.F16, Dtype.BF16)


def require_finite(path: Path, layout: Layout) -> None:
    """Refuse a file of this layout that has a NaN or an infinity.  Holds one block at a time."""
    with path.open("rb") as file:
        for tensor in layout.tensors:
            if tensor.dtype not in _FLOATS:
                continue
            file.seek(layout.header_size + tensor.begin)
            for begin in range(0, tensor.size, _BLOCK):
                block = file.read(min(tensor.size - begin, _BLOCK))
                finite = np.isfinite(np.frombuffer(block, NUMPY[tensor.dtype]))
                if not finite.all():
                    raise NotFinite(tensor.name, begin // tensor.dtype.itemsize + int(np.argmin(finite)))
