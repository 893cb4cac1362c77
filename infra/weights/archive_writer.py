"""Writes a weights file as an archive that `torch.load` reads, without torch."""

import zipfile
from collections.abc import Iterable, Iterator
from itertools import accumulate
from operator import mul
from pathlib import Path

from infra.weights.files import CHUNK
from infra.weights.layout import Layout, Tensor
from infra.weights.pickles import (
    ORDERED_DICT,
    REBUILD_TENSOR,
    REBUILD_TYPED_TENSOR,
    STORAGES,
    TYPES_WITHOUT_STORAGE,
    UNTYPED_STORAGE,
)

_ROOT = "archive/"
_STORAGE_OF = {dtype: name for name, dtype in STORAGES.items()}
_TYPE_OF = {dtype: name for name, dtype in TYPES_WITHOUT_STORAGE.items()}

_PROTOCOL_2 = b"\x80\x02"
_MARK, _TUPLE, _EMPTY_TUPLE, _REDUCE = b"(", b"t", b")", b"R"
_SET_ITEMS, _PERSISTENT, _FALSE, _STOP = b"u", b"Q", b"\x89", b"."


def write_archive(weights: Path, layout: Layout, destination: Path) -> None:
    """Write the tensors of a weights file with this layout as `torch.save` would write their state_dict."""
    with weights.open("rb") as reader, zipfile.ZipFile(destination, "w") as archive:
        archive.writestr(_entry("data.pkl"), b"".join(_pickle(layout)))
        archive.writestr(_entry("byteorder"), b"little")
        for index, tensor in enumerate(layout.tensors):
            reader.seek(layout.header_size + tensor.begin)
            with archive.open(_entry(f"data/{index}", tensor.size), "w") as member:
                for begin in range(0, tensor.size, CHUNK):
                    member.write(reader.read(min(CHUNK, tensor.size - begin)))
        archive.writestr(_entry("version"), b"3\n")


def _entry(name: str, size: int = 0) -> zipfile.ZipInfo:
    """Without a date, so that the same model gives the same archive."""
    entry = zipfile.ZipInfo(_ROOT + name)
    entry.file_size = size
    return entry


def _pickle(layout: Layout) -> Iterator[bytes]:
    yield _PROTOCOL_2
    yield _empty_dict()
    yield _MARK
    for index, tensor in enumerate(layout.tensors):
        yield _text(tensor.name)
        yield _rebuilt(tensor, str(index))
    yield _SET_ITEMS + _STOP


def _rebuilt(tensor: Tensor, key: str) -> bytes:
    typed = tensor.dtype in _TYPE_OF
    arguments = [
        _storage(tensor, key),
        _number(0),
        _tuple(map(_number, tensor.shape)),
        _tuple(map(_number, _strides(tensor.shape))),
        _FALSE,
        _empty_dict(),
    ]
    if typed:
        arguments.append(_global(_TYPE_OF[tensor.dtype]))
    return _global(REBUILD_TYPED_TENSOR if typed else REBUILD_TENSOR) + _tuple(arguments) + _REDUCE


def _storage(tensor: Tensor, key: str) -> bytes:
    untyped = tensor.dtype in _TYPE_OF
    kind = _global(UNTYPED_STORAGE if untyped else _STORAGE_OF[tensor.dtype])
    length = tensor.size if untyped else tensor.size // tensor.dtype.itemsize
    return _tuple([_text("storage"), kind, _text(key), _text("cpu"), _number(length)]) + _PERSISTENT


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of contiguous elements in row-major order: each step is the product of all later sizes."""
    return tuple(accumulate(reversed(shape[1:]), mul, initial=1))[::-1] if shape else ()


def _empty_dict() -> bytes:
    return _global(ORDERED_DICT) + _EMPTY_TUPLE + _REDUCE


def _global(name: str) -> bytes:
    module, attribute = name.split(" ")
    return f"c{module}\n{attribute}\n".encode()


def _tuple(parts: Iterable[bytes]) -> bytes:
    return _MARK + b"".join(parts) + _TUPLE


def _text(text: str) -> bytes:
    encoded = text.encode()
    return b"X" + len(encoded).to_bytes(4, "little") + encoded


def _number(number: int) -> bytes:
    encoded = number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + len(encoded).to_bytes(1, "little") + encoded
