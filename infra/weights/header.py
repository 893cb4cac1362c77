"""Reads a safetensors header, trusting nothing in it."""

import json
from itertools import pairwise
from typing import NoReturn

from infra.weights.layout import MAX_TENSORS, METADATA, Dtype, Layout, Tensor
from infra.weights.refusals import MalformedWeights

PREFIX_SIZE = 8
MAX_HEADER = 1 << 20
MAX_METADATA = 4096


def header_size(prefix: bytes, limit: int = MAX_HEADER) -> int:
    """How many bytes come before the data, prefix included, by the file's first 8 bytes."""
    if len(prefix) != PREFIX_SIZE:
        raise MalformedWeights(f"it has only {len(prefix)} bytes")
    length = int.from_bytes(prefix, "little")
    if not 2 <= length <= limit:
        raise MalformedWeights(f"it announces a header of {length} bytes, 2 to {limit} are admitted")
    return PREFIX_SIZE + length


def parse_header(header: bytes) -> Layout:
    """The layout that these bytes (prefix included) describe, canonical or not.

    Whatever is accepted here the safetensors library accepts too, with the same meaning.
    """
    entries = _parse_json(header[PREFIX_SIZE:])
    _check_metadata(entries.pop(METADATA, {}))
    if len(entries) > MAX_TENSORS:
        raise MalformedWeights(f"{len(entries)} tensors, at most {MAX_TENSORS} are admitted")
    tensors = sorted((_tensor(*entry) for entry in entries.items()), key=lambda t: (t.begin, t.end))
    if tensors and tensors[0].begin != 0:
        raise MalformedWeights(f"the data starts with {tensors[0].begin} bytes that belong to no tensor")
    for left, right in pairwise(tensors):
        if left.end != right.begin:
            raise MalformedWeights(f"tensors {left.name!r} and {right.name!r} overlap or leave a gap")
    return Layout(tensors=tuple(tensors), header=bytes(header))


def _parse_json(text: bytes) -> dict[str, object]:
    if not text.startswith(b"{"):
        raise MalformedWeights("its header is not a JSON object")
    try:
        entries = json.loads(
            text.decode("utf-8"),
            object_pairs_hook=_without_repeats,
            parse_int=_natural,
            parse_float=_no_number,
            parse_constant=_no_number,
        )
    except RecursionError:
        raise MalformedWeights("its header is nested too deeply") from None
    except ValueError as error:
        raise MalformedWeights(f"its header is not JSON in UTF-8 ({error})") from None
    assert isinstance(entries, dict)
    return entries


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MalformedWeights("its header has the same key twice")
    return found


def _natural(digits: str) -> int:
    if not digits.isdigit() or len(digits) > 19:
        _no_number(digits)
    return int(digits)


def _no_number(text: str) -> NoReturn:
    raise MalformedWeights(
        f"its header has the number {text[:30]}; only whole numbers below 10**19 are admitted"
    )


def _check_metadata(metadata: object) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise MalformedWeights(f"{METADATA} does not map strings to strings")
    try:
        size = sum(len(key.encode()) + len(value.encode()) for key, value in metadata.items())
    except UnicodeEncodeError:
        raise MalformedWeights(f"{METADATA} has text that is not Unicode") from None
    if size > MAX_METADATA:
        raise MalformedWeights(f"{METADATA} has {size} bytes, at most {MAX_METADATA} are admitted")


def _tensor(name: str, entry: object) -> Tensor:
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(begin), int(end)], **rest} if (
            not rest
        ):
            pass
        case _:
            raise MalformedWeights(f"{name[:60]!r} is not described by dtype, shape and data_offsets alone")
    if dtype not in Dtype.__members__:
        raise MalformedWeights(f"{name[:60]!r} has dtype {dtype[:30]!r}, admitted are {', '.join(Dtype)}")
    if not all(type(number) is int for number in (*shape, begin, end)):
        raise MalformedWeights(f"shape and data_offsets of {name[:60]!r} are not lists of whole numbers")
    tensor = Tensor(name=name, dtype=Dtype(dtype), shape=tuple(shape), begin=begin)
    if tensor.end != end:
        raise MalformedWeights(f"{name!r} needs {tensor.size} bytes but has offsets {begin} to {end}")
    return tensor
