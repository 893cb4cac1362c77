"""From float64 to the dtype a tensor has: to the nearest value, of two equally near ones to the even one."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.weights.arrays import NUMPY
from infra.weights.layout import Dtype
from services.aggregator.rules.refusals import ResultOutOfRange


def narrow(values: NDArray[np.float64], dtype: Dtype) -> NDArray[Any]:
    """A new array of this float dtype, rounded once.  Numbers that would become infinite are refused."""
    try:
        with np.errstate(over="raise", under="ignore"):
            if dtype == Dtype.BF16:
                return _finite(_without_ties(values).astype(NUMPY[dtype]))
            return values.astype(NUMPY[dtype])
    except FloatingPointError:
        raise ResultOutOfRange(dtype) from None


def _finite(values: NDArray[Any]) -> NDArray[Any]:
    if ((values.view(np.uint16) & 0x7FFF) >= 0x7F80).any():
        raise FloatingPointError
    return values


def _without_ties(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """float32 values that round to the same bfloat16 as the float64 ones.

    bfloat16 is the upper half of float32.  Rounding twice errs only where the first rounding ends halfway
    between two bfloat16 values although the value was not there: such a float32 is moved one step back
    to the side where the value was.
    """
    single = values.astype(np.float32)
    bits = single.view(np.uint32)
    halfway = (bits & 0xFFFF) == 0x8000
    size, true_size = np.abs(single, dtype=np.float64), np.abs(values)
    bits += halfway & (true_size > size)
    bits -= halfway & (true_size < size)
    return single
