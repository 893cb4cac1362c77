"""Weighted means that take one update at a time: floats in float64, integers exactly, booleans by majority.

Every element is computed on its own, by the same operations in the order of the updates.  How the elements
are cut into shards and strips therefore cannot change a bit of the result.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.weights.arrays import NUMPY
from infra.weights.layout import Dtype
from infra.weights.parts import FLOATS as FLOATS

Limbs = NDArray[np.int64]

_LIMB = 32
_LOW = np.int64(2**_LIMB - 1)
_DIGIT = 8


class FloatSum:
    """sum(factor * value), each operation one rounding of float64."""

    def __init__(self, elements: int) -> None:
        self._sums = np.full(elements, -0.0)  # the one start that changes no first term, not even -0.0

    def add(self, factor: float, values: NDArray[np.float64], at: int) -> None:
        """Count these neighbouring elements, the first of them number `at`; `values` is written over."""
        if factor != 1:
            values *= factor
        self._sums[at : at + len(values)] += values

    def over(self, divisor: float, part: slice) -> NDArray[np.float64]:
        return self._sums[part] / divisor


class IntegerMean:
    """The exact mean, rounded once: to the nearest integer, of two equally near ones to the even one.

    A sum is kept as `top * 2**64 + middle * 2**32 + low` with `middle` and `low` from 0 to 2**32 - 1.  A
    weight is `high * 2**32 + low` with `low` from -2**31 to 2**31 - 1, so that no step leaves int64:
    (2**31 - 1) * (2**32 - 1) plus both carries is 2**63 - 1 at most, -2**31 * (2**32 - 1) - 2**31 is -2**63.
    """

    def __init__(self, dtype: Dtype, elements: int) -> None:
        self._dtype = NUMPY[dtype]
        self._low, self._middle, self._top = np.zeros((3, elements), np.int64)

    def add(self, weight: int, values: NDArray[Any], at: int) -> None:
        part = slice(at, at + len(values))
        low, high = _limbs(values)
        weight_high, weight_low = divmod(weight + 2**31, 2**_LIMB)
        weight_low -= 2**31
        sums = low * weight_low + self._low[part]
        self._low[part] = sums & _LOW
        sums = high * weight_low + self._middle[part] + (sums >> _LIMB)
        if weight_high:
            self._top[part] += high * weight_high + (sums >> _LIMB)
            sums = low * weight_high + (sums & _LOW)
        self._middle[part] = sums & _LOW
        self._top[part] += sums >> _LIMB

    def result(self, part: slice, total: int) -> NDArray[Any]:
        quotient = rounded_quotient(self._top[part], self._middle[part], self._low[part], total)
        return quotient.astype(f"u{self._dtype.itemsize}").view(self._dtype)


class Majority:
    """True where the updates that say so have more than half of all weight."""

    def __init__(self, elements: int) -> None:
        self._votes = np.zeros(elements, np.int64)

    def add(self, weight: int, values: NDArray[Any], at: int) -> None:
        self._votes[at : at + len(values)] += values.view(np.uint8) * np.int64(weight)

    def result(self, part: slice, total: int) -> NDArray[Any]:
        return 2 * self._votes[part] > total


def _limbs(values: NDArray[Any]) -> tuple[Limbs, Limbs]:
    """`high * 2**32 + low`; only `high` has a sign."""
    wide = values.astype(np.uint64 if values.dtype.kind == "u" else np.int64)
    low, high = wide & wide.dtype.type(_LOW), wide >> wide.dtype.type(_LIMB)
    return low.astype(np.int64), high.astype(np.int64)


def rounded_quotient(top: Limbs, middle: Limbs, low: Limbs, divisor: int) -> NDArray[np.uint64]:
    """Long division, a byte at a time, rounded half to even; modulo 2**64, so that signs survive."""
    quotient = np.zeros(top.shape, np.uint64)
    rest = top % divisor
    for limb in (middle, low):
        for shift in range(_LIMB - _DIGIT, -1, -_DIGIT):
            rest = (rest << _DIGIT) | ((limb >> shift) & 0xFF)
            digit, rest = np.divmod(rest, divisor)
            quotient = (quotient << np.uint64(_DIGIT)) | digit.astype(np.uint64)
    is_odd = (quotient & np.uint64(1)).astype(np.bool_)
    quotient += (2 * rest > divisor) | ((2 * rest == divisor) & is_odd)
    return quotient
