"""Numbers cut into digits to the base 2**21, so small that products of thousands of them add up exactly.

Digits are integers in float64.  A float is made of four: x = (d3 B^3 + d2 B^2 + d1 B + d0) * unit with
B = 2**21 and unit = 2**(exponent - 89), where 2**exponent is at least the Euclidean norm of the whole row;
what is below half a unit is rounded away.  All but the leading digits are at most 2**20; these make a vector
no longer than 2**26.  An integer is made of four with unit 1.

Ozaki et al., "Error-free transformations of matrix multiplication by using fast routines of matrix
multiplication and its applications", Numerical Algorithms 59, 2012.
"""

from collections.abc import Sequence
from math import frexp
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Row = NDArray[Any]

DIGITS = 4
BASE_BITS = 21
LEADING_BITS = 26
UNIT_BITS = LEADING_BITS + (DIGITS - 1) * BASE_BITS
MOST_COLUMNS = 4_096  # then no sum of products of digits is larger than 2**52

_BASE = 2.0**BASE_BITS
_LEAST_EXPONENT = -900  # so that no scale overflows


def exponent_of(norm: float) -> int:
    """2**exponent is larger than the norm, and not much."""
    return max(frexp(norm)[1], _LEAST_EXPONENT) if norm else 0


class Splitter:
    """Cuts columns of float rows into digits; what it returns is good until it is called again."""

    def __init__(self, exponents: Sequence[int], columns: int) -> None:
        self._scales = [2.0 ** (LEADING_BITS - exponent) for exponent in exponents]
        self._digits = np.empty(2 * len(exponents) * columns)
        self._rest = np.empty(len(exponents) * columns)

    def split(self, rows: Sequence[Row], part: slice) -> tuple[Doubles, Doubles | None]:
        """The two upper digits, 2n x columns; and all four, 4n x columns, where lower ones are needed."""
        n, columns = len(rows), rows[0][part].size
        digits = self._digits[: 2 * n * columns].reshape(2, n, columns)
        rest = self._rest[: n * columns].reshape(n, columns)
        for line, row, scale in zip(rest, rows, self._scales, strict=True):
            np.copyto(line, _plain(row[part]))
            np.multiply(line, scale, out=line)
        np.rint(rest, out=digits[0])
        rest -= digits[0]
        rest *= _BASE
        np.rint(rest, out=digits[1])
        rest -= digits[1]
        return digits.reshape(2 * n, columns), _with_lower(digits, rest)


def _with_lower(upper: NDArray[np.float64], rest: Doubles) -> Doubles | None:
    places = np.flatnonzero(rest.any(axis=0))
    if not len(places):
        return None
    n = len(rest)
    all_digits = np.empty((DIGITS, n, len(places)))
    np.take(upper, places, axis=2, out=all_digits[:2])
    rest = rest.take(places, axis=1)
    rest *= _BASE
    np.rint(rest, out=all_digits[2])
    rest -= all_digits[2]
    rest *= _BASE
    np.rint(rest, out=all_digits[3])
    return all_digits.reshape(DIGITS * n, len(places))


def split_integers(rows: Sequence[Row], part: slice) -> Doubles:
    """As many digits as the largest number needs, the uppermost first: at most 4n x columns."""
    found: list[Doubles] = []
    rest = np.stack([row[part] for row in rows])
    rest = rest.astype(np.uint64 if rest.dtype == np.uint64 else np.int64)
    while rest.any() or not found:
        upper = (rest >> rest.dtype.type(BASE_BITS)) + ((rest >> rest.dtype.type(BASE_BITS - 1)) & 1)
        digit = (rest - (upper << rest.dtype.type(BASE_BITS))).astype(np.int64)
        found.insert(0, digit.astype(np.float64))
        rest = upper
    return np.concatenate(found)


def _plain(row: Row) -> Row:
    """bfloat16 is the upper half of float32."""
    if row.dtype != ml_dtypes.bfloat16:
        return row
    return (row.view(np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)
