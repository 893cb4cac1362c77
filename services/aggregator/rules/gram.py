"""Inner products of all updates with one another, exactly, whatever order their numbers come in."""

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from schemas.refusal import Refusal
from services.aggregator.rules.digits import (
    BASE_BITS,
    DIGITS,
    MOST_COLUMNS,
    Doubles,
    Row,
    Splitter,
    exponent_of,
    split_integers,
)
from services.aggregator.rules.refusals import NoUpdates

Integers = NDArray[np.int64]

LEVELS = 2 * DIGITS - 1
BLOCK = 1 << 17  # numbers of all rows that are cut into digits at once, however many rows there are
_HEADER = struct.Struct("<8sII")
_MAGIC = b"WarrenG1"
_UNCARRIED = 64  # blocks whose products an int64 holds without carrying
_NORM_LIMIT = 1.25 * 2.0**52  # of the leading digits of a row whose norm was told rightly


class MalformedGram(Refusal):
    code: ClassVar[str] = "malformed_gram"

    def __init__(self, why: str) -> None:
        super().__init__(f"not the inner products that were measured: {why}")


class Products:
    """Exact sums of products of digits, n x n: level c counts the base to the power of c."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._levels = np.zeros((LEVELS, rows, rows), np.int64)
        self._uncarried = 0

    def add(self, digits: Doubles, lowest: int, since: int = 0) -> Doubles:
        """Count the products of all digits, which are given uppermost first; returns those of one block.

        The last of them counts the base to the power of `lowest`.  Products of which both are among the
        first `since` digits are left out.
        """
        n, count = self._rows, len(digits) // self._rows
        products: Doubles = np.matmul(digits[since * n :], digits.T)
        for a in range(since, count):
            for b in range(a + 1):
                exact = products[(a - since) * n :, b * n : (b + 1) * n][:n].astype(np.int64)
                level = self._levels[2 * (lowest + count - 1) - a - b]
                level += exact
                if a != b:
                    level += exact.T
        self._uncarried += 1
        if self._uncarried == _UNCARRIED:
            self.carry()
        return products

    def merge(self, other: "Products") -> None:
        self.carry()
        other.carry()
        self._levels += other._levels
        self.carry()

    def carry(self) -> None:
        """Bring all levels but the uppermost to 0 to base-1: equal sums have equal levels then."""
        for level in range(LEVELS - 1):
            self._levels[level + 1] += self._levels[level] >> BASE_BITS
            self._levels[level] &= 2**BASE_BITS - 1
        self._uncarried = 0

    def words(self) -> Integers:
        """Three integers for each pair, to the base 2**63: those of i and j <= i after one another."""
        self.carry()
        pairs = np.tril_indices(self._rows)
        levels = [level[pairs] for level in self._levels]
        low, middle = ((levels[at] | levels[at + 1] << 21 | levels[at + 2] << 42) for at in (0, 3))
        return np.stack([low, middle, levels[6]])

    @classmethod
    def of(cls, rows: int, words: Integers) -> "Products":
        found = cls(rows)
        low, middle, top = words
        pairs = np.tril_indices(rows)
        for level in range(LEVELS - 1):
            word = low if level < 3 else middle
            found._levels[level][pairs] = word >> (BASE_BITS * (level % 3)) & (2**BASE_BITS - 1)
        found._levels[-1][pairs] = top
        found._levels += np.tril(found._levels, -1).swapaxes(1, 2)
        return found

    def exact(self) -> Iterator[list[int]]:
        """Row by row the sums with the rows up to itself, in units."""
        words, begin = self.words(), 0
        for row in range(self._rows):
            end = begin + row + 1
            yield [low + (mid << 63) + (top << 126) for low, mid, top in words[:, begin:end].T.tolist()]
            begin = end


class Gram:
    """Inner products of n rows, of which any pieces are added in any order.

    A row's norm must be told beforehand: as large as that of all its floats, but for rounding.  Floats are
    taken to 2**-89 of it, integers and booleans as they are.  All sums are exact: neither the cut into pieces
    nor threads nor the processor can change them.  Memory: about 100 n^2 bytes and 10 MB.
    """

    def __init__(self, norms: Sequence[float]) -> None:
        if not norms:
            raise NoUpdates
        self.exponents = tuple(exponent_of(norm) for norm in norms)
        self.floats = Products(len(norms))
        self.integers: Products | None = None
        self._columns = min(MOST_COLUMNS, BLOCK // len(norms))
        self._splitter: Splitter | None = None
        self._squares = np.zeros(len(norms))

    @property
    def rows(self) -> int:
        return len(self.exponents)

    def add(self, rows: Sequence[Row]) -> None:
        """One piece of every row: the same places, one dtype a piece."""
        first = rows[0]
        if len(rows) != self.rows or {(row.dtype, row.shape) for row in rows} != {
            (first.dtype, (first.size,))
        }:
            raise ValueError("the pieces differ in number, dtype or length, or are not one-dimensional")
        add = self._add_integers if first.dtype.kind in "iub" else self._add_floats
        for at in range(0, first.size, self._columns):
            add(rows, slice(at, at + self._columns))

    def empty(self) -> "Gram":
        """Of the same rows, without any piece."""
        found = Gram([0.0] * self.rows)
        found.exponents = self.exponents
        return found

    def merge(self, other: "Gram") -> None:
        """Count the products of other pieces of the same rows."""
        if other.exponents != self.exponents:
            raise MalformedGram("they are of other rows")
        self.floats.merge(other.floats)
        if other.integers is not None:
            self._of_integers().merge(other.integers)

    def _add_floats(self, rows: Sequence[Row], part: slice) -> None:
        self._splitter = self._splitter or Splitter(self.exponents, self._columns)
        upper, with_lower = self._splitter.split(rows, part)
        self._squares += self.floats.add(upper, lowest=2).diagonal()[: self.rows]
        if not self._squares.max() <= _NORM_LIMIT:
            raise ValueError(f"row {self._squares.argmax()} is longer than was told")
        if with_lower is not None:
            self.floats.add(with_lower, lowest=0, since=2)

    def _add_integers(self, rows: Sequence[Row], part: slice) -> None:
        self._of_integers().add(split_integers(rows, part), lowest=0)

    def _of_integers(self) -> Products:
        self.integers = self.integers or Products(self.rows)
        return self.integers

    def to_bytes(self) -> bytes:
        """The same bytes for the same sums."""
        parts = [self.floats.words(), *([self.integers.words()] if self.integers is not None else [])]
        exponents = np.array(self.exponents, "<i2").tobytes()
        body = exponents + b"".join(part.astype("<i8").tobytes() for part in parts)
        return _HEADER.pack(_MAGIC, self.rows, zlib.crc32(body)) + body

    @classmethod
    def from_bytes(cls, data: bytes) -> "Gram":
        if len(data) < _HEADER.size:
            raise MalformedGram("it is too short")
        magic, rows, checksum = _HEADER.unpack_from(data)
        body = memoryview(data)[_HEADER.size :]
        if magic != _MAGIC or not rows or zlib.crc32(body) != checksum:
            raise MalformedGram("the header or the checksum is wrong")
        parts, left = divmod(len(body) - 2 * rows, 24 * (rows * (rows + 1) // 2))
        if parts not in {1, 2} or left:
            raise MalformedGram("it has another length")
        found = cls([0.0] * rows)
        found.exponents = tuple(np.frombuffer(body, "<i2", rows).tolist())
        words = np.frombuffer(body, "<i8", offset=2 * rows).reshape(parts, 3, -1).astype(np.int64)
        found.floats = Products.of(rows, words[0])
        found.integers = Products.of(rows, words[1]) if parts == 2 else None
        return found
