"""What the next model must be, computed in another way than the aggregator does."""

import hashlib
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from infra.weights.layout import Dtype, Layout

Arrays = dict[str, NDArray[Any]]

_NUMPY = {
    Dtype.F64: np.dtype(np.float64),
    Dtype.F32: np.dtype(np.float32),
    Dtype.F16: np.dtype(np.float16),
    Dtype.BF16: np.dtype(ml_dtypes.bfloat16),
    Dtype.I64: np.dtype(np.int64),
    Dtype.BOOL: np.dtype(np.bool_),
}


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def arrays_in(layout: Layout, file: bytes) -> Arrays:
    data = file[layout.header_size :]
    return {
        tensor.name: np.frombuffer(data[tensor.begin : tensor.end], _NUMPY[tensor.dtype])
        for tensor in layout.tensors
    }


def file_with(layout: Layout, arrays: Mapping[str, NDArray[Any]]) -> bytes:
    return layout.header + b"".join(arrays[tensor.name].tobytes() for tensor in layout.tensors)


def trained(layout: Layout, model: bytes, seed: Sequence[int]) -> bytes:
    """A site's update: it depends on the model and on the seed, on nothing else."""
    random = np.random.default_rng(seed)
    found: Arrays = {}
    for name, array in arrays_in(layout, model).items():
        if array.dtype == np.bool_:
            found[name] = array ^ (random.random(array.shape) < 0.3)
        elif array.dtype == np.int64:
            found[name] = array // 2 + random.integers(-(2**40), 2**40, array.shape)
        else:
            noise = random.standard_normal(array.shape)
            found[name] = (array.astype(np.float64) / 2 + noise).astype(array.dtype)
    return file_with(layout, found)


def mean_file(layout: Layout, updates: Sequence[tuple[int, bytes]]) -> bytes:
    """The weighted mean of whole files, given in the order of their clients' ids."""
    parts = [(weight, arrays_in(layout, file)) for weight, file in updates]
    means = {
        tensor.name: _mean(tensor.dtype, [(weight, arrays[tensor.name]) for weight, arrays in parts])
        for tensor in layout.tensors
    }
    return file_with(layout, means)


def _mean(dtype: Dtype, terms: Sequence[tuple[int, NDArray[Any]]]) -> NDArray[Any]:
    total = sum(weight for weight, _ in terms)
    if dtype == Dtype.BOOL:
        votes = sum((weight * array.astype(np.int64) for weight, array in terms), np.zeros((), np.int64))
        return 2 * votes > total
    if dtype == Dtype.I64:
        sums = [
            sum(weight * int(value) for (weight, _), value in zip(terms, values, strict=True))
            for values in zip(*(array for _, array in terms), strict=True)
        ]
        return np.array([round(Fraction(each, total)) for each in sums], np.int64)
    (first, array), *others = terms
    wide = array.astype(np.float64) * first
    for weight, array in others:
        wide = wide + array.astype(np.float64) * weight
    wide = wide / total
    return _to_bfloat16(wide) if dtype == Dtype.BF16 else wide.astype(_NUMPY[dtype])


def _to_bfloat16(wide: NDArray[np.float64]) -> NDArray[Any]:
    """For normal numbers: the 45 lowest bits of a double are rounded away, half to even."""
    bits = wide.view(np.uint64)
    kept = bits >> np.uint64(45)
    rounded = (bits + np.uint64((1 << 44) - 1) + (kept & np.uint64(1))) >> np.uint64(45) << np.uint64(45)
    return rounded.view(np.float64).astype(np.float32).astype(_NUMPY[Dtype.BF16])
