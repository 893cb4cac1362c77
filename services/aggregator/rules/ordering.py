"""Rows brought into order, place by place: at every place rank 0 is the lowest of the rows' values there."""

from collections.abc import Iterator, Sequence
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from services.aggregator.rules.networks import Network, network

Row = NDArray[Any]
Ranks = list[Row]

_NETWORK_ROWS = 128  # of more rows numpy's own sort is as fast
_CACHE = 3 << 19  # bytes of all rows that are worked on at once: they stay in a core's cache
_SHORTEST, _LONGEST = 4_096, 32_768
_HALVES = frozenset({np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)})


def ranks(rows: Sequence[Row], first: int, last: int) -> Iterator[tuple[slice, Ranks]]:
    """The ranks `first` to `last` of block after block; float16 and bfloat16 become float32.

    A block's arrays may be read until the next one is asked for.  Zeros may have either sign.
    """
    wanted = _networked if len(rows) <= _NETWORK_ROWS else _sorted
    halves = rows[0].dtype if rows[0].dtype in _HALVES else None
    keys = np.dtype(np.int16) if halves else rows[0].dtype
    for part, ordered in wanted(rows, first, last, keys):
        yield part, [_from_keys(row, halves) for row in ordered] if halves else ordered


def _networked(
    rows: Sequence[Row], first: int, last: int, keys: np.dtype[Any]
) -> Iterator[tuple[slice, Ranks]]:
    plan = network(len(rows), first, last)
    block = min(_LONGEST, max(_SHORTEST, _CACHE // (len(rows) * keys.itemsize)))
    buffers = list(np.empty((plan.buffers, min(block, len(rows[0]))), keys))
    for part in _parts(len(rows[0]), block):
        given = [_as_keys(row[part], keys) for row in rows]
        yield part, _run(plan, [*given, *(buffer[: len(given[0])] for buffer in buffers)])


def _run(plan: Network, places: list[Row]) -> Ranks:
    for is_minimum, a, b, out in plan.operations:
        (np.minimum if is_minimum else np.maximum)(places[a], places[b], out=places[out])
    return [places[place] for place in plan.results]


def _sorted(rows: Sequence[Row], first: int, last: int, keys: np.dtype[Any]) -> Iterator[tuple[slice, Ranks]]:
    block = max(16, _CACHE // (len(rows) * keys.itemsize))
    for part in _parts(len(rows[0]), block):
        columns = np.stack([_as_keys(row[part], keys) for row in rows], axis=-1)
        columns.sort(axis=-1)
        yield part, list(np.ascontiguousarray(columns[:, first : last + 1].T))


def _parts(elements: int, block: int) -> Iterator[slice]:
    return (slice(at, min(at + block, elements)) for at in range(0, elements, block))


def _as_keys(row: Row, keys: np.dtype[Any]) -> Row:
    """The row, or for half precision integers in the order of its numbers: sign times the other bits."""
    if row.dtype == keys:
        return row
    bits = row.view(np.int16)
    sign = bits >> np.int16(15)
    size = bits & np.int16(0x7FFF)
    size ^= sign
    size -= sign
    return size


def _from_keys(keys: NDArray[np.int16], dtype: np.dtype[Any]) -> NDArray[np.float32]:
    sign = keys >> np.int16(15)
    bits = keys ^ sign
    bits -= sign
    bits |= sign & np.int16(-(2**15))
    if dtype == np.float16:
        return bits.view(np.float16).astype(np.float32)
    return (bits.view(np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)
