"""Small models to try things on: names, shapes and numbers of every dtype."""

import math

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from infra.weights.archive import AnyArray
from infra.weights.arrays import NUMPY
from infra.weights.layout import Dtype, Layout, Tensor, canonical

FLOATS = (Dtype.F64, Dtype.F32, Dtype.F16, Dtype.BF16)

names = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=12).filter(
    lambda name: name.isprintable() and name != "__metadata__"
)
shapes = st.lists(st.integers(0, 5), max_size=3).map(tuple)


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    chosen = draw(st.lists(names, max_size=6, unique=True))
    return canonical(Tensor(name, draw(st.sampled_from(list(Dtype))), draw(shapes)) for name in chosen)


def numbers(dtype: Dtype, count: int, seed: int) -> NDArray[np.generic]:
    """Any bits of the dtype, but finite and, for F64, below 2**480."""
    random = np.random.default_rng(seed)
    bits = random.integers(0, 256, count * dtype.itemsize, dtype=np.uint8)
    if dtype == Dtype.BOOL:
        return (bits & 1).view(np.bool_)
    values = bits.view(NUMPY[dtype])
    if dtype not in FLOATS:
        return values
    with np.errstate(invalid="ignore"):
        wide = values.astype(np.float64)
    sane = np.isfinite(wide) & (np.abs(wide) < 2.0**480)
    return np.where(sane, values, values.dtype.type(math.pi))


def arrays_of(layout: Layout, seed: int) -> dict[str, AnyArray]:
    return {
        tensor.name: numbers(tensor.dtype, tensor.size // tensor.dtype.itemsize, seed + i).reshape(
            tensor.shape
        )
        for i, tensor in enumerate(layout.tensors)
    }


def file_of(layout: Layout, seed: int) -> bytes:
    """A canonical weights file with this layout."""
    arrays = arrays_of(layout, seed)
    return layout.header + b"".join(arrays[tensor.name].tobytes() for tensor in layout.tensors)
