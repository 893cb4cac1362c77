"""Rules that order the values of all updates at every place: median, trimmed mean, mean of the nearest.

Rows are one-dimensional arrays of one length and one dtype.  Floats give float64, integers their own dtype
(exact, rounded half to even).  A boolean is what more than half of the rows say, ties false: dropping values
from both ends, or those farthest from the median, leaves that the same.  Zeros come out as +0.0.  Every place
is computed on its own, and in ascending order, so neither the cut into blocks nor the order of the rows
changes a bit.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.weights.arrays import DTYPES
from services.aggregator.rules.means import FLOATS, IntegerMean
from services.aggregator.rules.ordering import Ranks, Row, ranks
from services.aggregator.rules.refusals import NoUpdates

Total = tuple[NDArray[Any], NDArray[Any]]  # a sum, and what is to be added to it


def median(rows: Sequence[Row]) -> Row:
    """The middle value, of an even number of rows half the sum of the two middle ones."""
    _check(rows)
    if rows[0].dtype == np.bool_:
        return _majority(rows)
    found = _result(rows)
    for part, middle in ranks(rows, (len(rows) - 1) // 2, len(rows) // 2):
        found[part] = _midpoint(middle[0], middle[-1])
    return found


def trimmed_mean(rows: Sequence[Row], cut: int) -> Row:
    """The mean of what is left without the `cut` lowest and the `cut` highest, summed in ascending order."""
    _check(rows)
    if not 0 <= 2 * cut < len(rows):
        raise ValueError(f"{cut} cut from each end of {len(rows)} rows leaves nothing")
    if rows[0].dtype == np.bool_:
        return _majority(rows)
    found = _result(rows)
    for part, kept in ranks(rows, cut, len(rows) - 1 - cut):
        found[part] = _mean(kept, len(kept))
    return found


def window_mean(rows: Sequence[Row], keep: int) -> Row:
    """The mean of the `keep` values nearest to the median, of two equally near ones the lower.

    Which are nearest is decided exactly; they are summed in ascending order.
    """
    _check(rows)
    if not 1 <= keep <= len(rows):
        raise ValueError(f"there are no {keep} of {len(rows)} rows")
    if rows[0].dtype == np.bool_:
        return _majority(rows)
    found = _result(rows)
    for part, ordered in ranks(rows, 0, len(rows) - 1):
        found[part] = _mean(_nearest(ordered, keep), keep)
    return found


def _check(rows: Sequence[Row]) -> None:
    if not rows:
        raise NoUpdates
    if {(row.dtype, row.shape) for row in rows} != {(rows[0].dtype, (rows[0].size,))}:
        raise ValueError("the rows differ in dtype or length, or are not one-dimensional")


def _is_float(row: Row) -> bool:
    return DTYPES[row.dtype] in FLOATS


def _result(rows: Sequence[Row]) -> Row:
    return np.empty(len(rows[0]), np.float64 if _is_float(rows[0]) else rows[0].dtype)


def _majority(rows: Sequence[Row]) -> Row:
    votes = np.zeros(len(rows[0]), np.int64)
    for row in rows:
        votes += row
    return 2 * votes > len(rows)


def _midpoint(low: Row, high: Row) -> Row:
    if _is_float(low):
        total = _wide(low)
        total += high
        total *= 0.5
        return total
    half, odd = _half_sum(low, high)
    half += odd & half & 1
    return half


def _mean(ordered: Iterable[Row], count: int) -> Row:
    first, *others = ordered
    if not _is_float(first):
        return _integer_mean([first, *others], count)
    total = _wide(first)
    for row in others:
        total += row
    total /= count
    return total


def _integer_mean(rows: Ranks, count: int) -> Row:
    mean = IntegerMean(DTYPES[rows[0].dtype], len(rows[0]))
    for row in rows:
        mean.add(1, row, 0)
    return mean.result(slice(0, len(rows[0])), count)


def _nearest(ordered: Ranks, keep: int) -> Iterator[Row]:
    """The values nearest to the median in ascending order, zeros in the place of the others.

    A window slides up from the lowest `keep` values while what it gains is nearer than what it loses.
    """
    total = _two_sum if _is_float(ordered[0]) else _half_sum
    middle = total(ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2])
    pairs = zip(ordered, ordered[keep:], strict=False)
    slides = [_is_less(total(lost, gained), middle) for lost, gained in pairs]
    for rank, row in enumerate(ordered):
        values = row if rank < keep else row * slides[rank - keep]
        yield values if rank >= len(slides) else values * ~slides[rank]


def _is_less(total: Total, other: Total) -> NDArray[np.bool_]:
    (high, low), (other_high, other_low) = total, other
    less: NDArray[np.bool_] = high < other_high
    less |= (high == other_high) & (low < other_low)
    return less


def _two_sum(a: Row, b: Row) -> Total:
    """The rounded sum and what rounding took from it (Knuth, The Art of Computer Programming 2, 4.2.2)."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    total = x + y
    of_y = total - x
    return total, (x - (total - of_y)) + (y - of_y)


def _half_sum(a: Row, b: Row) -> Total:
    """Half the sum rounded down, and whether half is missing: no step overflows."""
    differing = a ^ b
    return (a & b) + (differing >> 1), differing & 1


def _wide(row: Row) -> NDArray[np.float64]:
    wide = row.astype(np.float64)
    wide += 0.0  # no -0.0
    return wide
