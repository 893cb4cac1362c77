"""Reads what `torch.save(model.state_dict())` wrote, without torch and without running a pickle."""

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.weights.arrays import DTYPES, NUMPY
from infra.weights.layout import MAX_ELEMENTS, MAX_TENSORS, Layout, Tensor, canonical
from infra.weights.members import Bytes, read_members
from infra.weights.pickles import View, read_pickle
from infra.weights.refusals import UnsupportedArchive

AnyArray = NDArray[Any]  # numpy has no name for "of one of these dtypes"

MAX_PICKLE = 16 << 20
MAX_BYTES = 64 << 30


def state_dict_from_archive(path: Path, max_bytes: int = MAX_BYTES) -> dict[str, AnyArray]:
    """Name to array, in the archive's order.  The arrays are read-only views of the file, not copies."""
    members = read_members(path)
    _require_state_dict(members)
    views = _views(members["data.pkl"].tobytes())
    tensors = {name: Tensor(name, view.dtype, view.shape) for name, view in views.items()}
    total = sum(tensor.size for tensor in tensors.values())
    if total > max_bytes:
        raise UnsupportedArchive(f"its tensors have {total} bytes, at most {max_bytes} are admitted")
    return {name: _array(name, view, members) for name, view in views.items()}


def to_safetensors(archive: Path, destination: Path, max_bytes: int = MAX_BYTES) -> Layout:
    """Write the archive's tensors as a canonical weights file, one tensor at a time."""
    arrays = state_dict_from_archive(archive, max_bytes)
    layout = layout_of(arrays)
    with destination.open("wb") as writer:
        writer.write(layout.header)
        for tensor in layout.tensors:
            writer.write(np.ascontiguousarray(arrays[tensor.name]).reshape(-1).view(np.uint8).data)
    return layout


def layout_of(arrays: Mapping[str, AnyArray]) -> Layout:
    """The canonical layout of these arrays."""
    return canonical(Tensor(name, DTYPES[array.dtype], array.shape) for name, array in arrays.items())


def _require_state_dict(members: Mapping[str, Bytes]) -> None:
    if "constants.pkl" in members or any(name.startswith("code/") for name in members):
        raise UnsupportedArchive("it is a TorchScript program")
    if "byteorder" in members and members["byteorder"].tobytes() != b"little":
        raise UnsupportedArchive("its numbers are not little-endian")
    if len(members["data.pkl"]) > MAX_PICKLE:
        raise UnsupportedArchive(f"its data.pkl has more than {MAX_PICKLE} bytes")


def _views(pickle: bytes) -> dict[str, View]:
    value = read_pickle(pickle)
    if not isinstance(value, dict) or len(value) > MAX_TENSORS:
        raise UnsupportedArchive(f"it does not hold a dict of at most {MAX_TENSORS} tensors")
    for name, view in value.items():
        if not isinstance(view, View):
            raise UnsupportedArchive(f"its entry {name[:60]!r} is a {type(view).__name__}, not a tensor")
    return value


def _array(name: str, view: View, members: Mapping[str, Bytes]) -> AnyArray:
    content = members.get(f"data/{view.storage.key}")
    if content is None:
        raise UnsupportedArchive(f"the numbers of {name!r} are missing")
    dtype = NUMPY[view.dtype]
    elements = len(content) // dtype.itemsize
    _check_bounds(name, view, elements)
    flat = content[: elements * dtype.itemsize].view(dtype)
    strides = [step * dtype.itemsize for step in view.stride]
    return np.lib.stride_tricks.as_strided(flat[view.offset :], view.shape, strides, writeable=False)


def _check_bounds(name: str, view: View, elements: int) -> None:
    """A view may not repeat elements beyond their number: a small file must stay a small model."""
    size = prod(view.shape)
    last = view.offset + sum((count - 1) * step for count, step in zip(view.shape, view.stride, strict=True))
    if view.offset < 0 or any(not 0 <= step <= MAX_ELEMENTS for step in view.stride) or size > elements:
        raise UnsupportedArchive(f"{name!r} repeats numbers; save a contiguous copy of it")
    if size and last >= elements:
        raise UnsupportedArchive(f"{name!r} reaches beyond its storage")
