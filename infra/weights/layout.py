"""Which tensors a weights file holds, and where each byte of it belongs."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from math import prod

from infra.weights.refusals import MalformedWeights

MAX_TENSORS = 20_000
MAX_NAME = 512
MAX_RANK = 32
MAX_ELEMENTS = 2**48  # the product of all dimensions, those of 0 counted as 1
ALIGNMENT = 8
METADATA = "__metadata__"


class Dtype(StrEnum):
    """The element types we aggregate, in the order in which a canonical file has them.

    It is the order of the safetensors library: larger elements first, so that every offset into the data
    that is a multiple of 8 lies between two elements.
    """

    U64 = "U64"
    I64 = "I64"
    F64 = "F64"
    F32 = "F32"
    U32 = "U32"
    I32 = "I32"
    BF16 = "BF16"
    F16 = "F16"
    U16 = "U16"
    I16 = "I16"
    I8 = "I8"
    U8 = "U8"
    BOOL = "BOOL"

    @property
    def itemsize(self) -> int:
        return _ITEMSIZE[self]


_ITEMSIZE = {dtype: 1 if dtype == Dtype.BOOL else int(dtype.lstrip("BFIU")) // 8 for dtype in Dtype}
_RANK = {dtype: rank for rank, dtype in enumerate(Dtype)}


@dataclass(frozen=True, slots=True)
class Tensor:
    """Bytes `begin` to `end` of the data, which starts after the header."""

    name: str
    dtype: Dtype
    shape: tuple[int, ...]
    begin: int = 0

    def __post_init__(self) -> None:
        if not 1 <= len(self.name) <= MAX_NAME or not self.name.isprintable() or self.name == METADATA:
            raise MalformedWeights(
                f"{self.name[:60]!r} is no tensor name: 1 to {MAX_NAME} printable characters"
            )
        if len(self.shape) > MAX_RANK or any(size < 0 for size in self.shape):
            raise MalformedWeights(f"the shape of {self.name!r} is not at most {MAX_RANK} sizes from 0 on")
        if prod(max(size, 1) for size in self.shape) > MAX_ELEMENTS:
            raise MalformedWeights(f"the shape of {self.name!r} is larger than any model")

    @property
    def size(self) -> int:
        return prod(self.shape) * self.dtype.itemsize

    @property
    def end(self) -> int:
        return self.begin + self.size


@dataclass(frozen=True)
class Layout:
    """Tensors in the order of their bytes, and the file's bytes before the first of them."""

    tensors: tuple[Tensor, ...]
    header: bytes

    @property
    def header_size(self) -> int:
        return len(self.header)

    @property
    def data_size(self) -> int:
        return self.tensors[-1].end if self.tensors else 0

    @property
    def size(self) -> int:
        return self.header_size + self.data_size

    @cached_property
    def is_canonical(self) -> bool:
        return canonical(self.tensors).header == self.header


def canonical(tensors: Iterable[Tensor]) -> Layout:
    """The one layout for these tensors: the bytes that safetensors' `save_file` writes without metadata."""
    ordered = sorted(tensors, key=lambda tensor: (_RANK[tensor.dtype], tensor.name))
    if len(ordered) > MAX_TENSORS:
        raise MalformedWeights(f"{len(ordered)} tensors, at most {MAX_TENSORS} are admitted")
    return in_this_order(ordered)


def in_this_order(tensors: Iterable[Tensor]) -> Layout:
    """Tensor after tensor as they are given, canonical or not."""
    placed = []
    begin = 0
    for tensor in tensors:
        placed.append(replace(tensor, begin=begin))
        begin += tensor.size
    return Layout(tensors=tuple(placed), header=_header_of(placed))


def shards(data_size: int, shard_bytes: int) -> tuple[range, ...]:
    """The data cut into ranges of `shard_bytes`, the last one shorter; no data is one empty shard.

    In canonical data no range starts or ends inside an element.
    """
    if shard_bytes < ALIGNMENT or shard_bytes % ALIGNMENT:
        raise ValueError(f"shard_bytes is {shard_bytes}, not a positive multiple of {ALIGNMENT}")
    begins = range(0, max(data_size, 1), shard_bytes)
    return tuple(range(begin, min(begin + shard_bytes, data_size)) for begin in begins)


def _header_of(tensors: Iterable[Tensor]) -> bytes:
    entries = {
        tensor.name: {
            "dtype": tensor.dtype,
            "shape": tensor.shape,
            "data_offsets": (tensor.begin, tensor.end),
        }
        for tensor in tensors
    }
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    padded = text.ljust(-(-len(text) // ALIGNMENT) * ALIGNMENT)
    return len(padded).to_bytes(8, "little") + padded
