"""Model files on their way in and out: uploads become canonical, downloads become what was asked for."""

import asyncio
import hashlib
import shutil
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, ClassVar
from uuid import uuid4

from infra.objects.store import ObjectStore
from infra.weights.archive import to_safetensors
from infra.weights.archive_writer import write_archive
from infra.weights.files import canonicalise, read_layout
from infra.weights.finite import require_finite
from infra.weights.header import parse_header
from infra.weights.layout import Layout, canonical
from schemas.ids import ModelId
from schemas.keys import uploaded_model
from schemas.weights import ModelRef
from schemas.words import Extra
from services.api.answers import ModelStats, TensorStats
from services.api.errors import ApiRefusal
from services.api.store.rows import Found

_CHUNK = 2**20
_ZIP = b"PK\x03\x04"
_PICKLE = b"\x80"
_LENGTH = 8  # bytes of a safetensors file before its header, which is a JSON object
_RESERVED = tuple(f"{extra}/" for extra in Extra)


class FileKind(StrEnum):
    STATE_DICT = "state_dict"
    SAFETENSORS = "safetensors"


class NotAModel(ApiRefusal):
    code: ClassVar[str] = "not_a_model"


class EmptyModel(NotAModel):
    def __init__(self) -> None:
        super().__init__("the model has no tensors, so there is nothing to train")


class ReservedName(NotAModel):
    code: ClassVar[str] = "reserved_tensor_name"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"tensor {name[:100]!r} has a name of those that travel beside a model's own tensors:"
            f" {' and '.join(f'{extra}/…' for extra in Extra)}; call it something else"
        )


async def keep(upload: BinaryIO, folder: Path, files: ObjectStore, max_bytes: int) -> ModelRef:
    """Store an uploaded file in canonical form, as version 0 of a new model."""
    path, layout, sha256 = await asyncio.to_thread(_canonical, upload, folder, max_bytes)
    model = ModelId(uuid4())
    key = uploaded_model(model)
    await asyncio.to_thread(_put, files, key, path)
    return ModelRef(
        model_id=model, version=0, key=key, sha256=sha256, size=layout.size, header_size=layout.header_size
    )


async def fetch(version: Found, kind: FileKind, folder: Path, files: ObjectStore) -> Path:
    """One version of a model as a file of this kind in `folder`."""
    weights = folder / "weights.safetensors"
    await asyncio.to_thread(_get, files, version.key, weights)
    if kind is FileKind.SAFETENSORS:
        return weights
    archive = folder / "weights.pt"
    await asyncio.to_thread(lambda: write_archive(weights, read_layout(weights), archive))
    return archive


async def stats(version: Found, files: ObjectStore) -> ModelStats:
    """By the header alone."""
    layout = parse_header(await asyncio.to_thread(_start, files, version.key, version.header_size))
    tensors = tuple(
        TensorStats(name=t.name, dtype=t.dtype, shape=t.shape, parameters=t.size // t.dtype.itemsize)
        for t in layout.tensors
    )
    return ModelStats(parameters=sum(t.parameters for t in tensors), bytes=layout.data_size, tensors=tensors)


def _canonical(upload: BinaryIO, folder: Path, max_bytes: int) -> tuple[Path, Layout, str]:
    received, path = folder / "received", folder / "canonical"
    with received.open("wb") as file:
        shutil.copyfileobj(upload, file, _CHUNK)
    layout = _convert(received, path, max_bytes)
    if not layout.tensors:
        raise EmptyModel()
    for tensor in layout.tensors:
        if tensor.name.startswith(_RESERVED):
            raise ReservedName(tensor.name)
    require_finite(path, layout)  # or every site's update would be refused for what it was given
    with path.open("rb") as file:
        return path, layout, hashlib.file_digest(file, "sha256").hexdigest()


def _convert(received: Path, path: Path, max_bytes: int) -> Layout:
    """A few bytes of an archive may claim to be many of tensors, so those are limited too."""
    with received.open("rb") as file:
        start = file.read(_LENGTH + 1)
    if start.startswith(_ZIP):
        return to_safetensors(received, path, max_bytes)
    if start.startswith(_PICKLE) and start[_LENGTH:] != b"{":  # or it is the length of a header
        raise NotAModel(
            "this is a bare pickle; pickles are never run here:"
            " send torch.save(model.state_dict()) of a current torch, or safetensors"
        )
    layout = canonical(read_layout(received).tensors)
    canonicalise(received, layout, path)
    return layout


def _put(files: ObjectStore, key: str, path: Path) -> None:
    with path.open("rb") as file:
        files.put(key, iter(lambda: file.read(_CHUNK), b""), path.stat().st_size)


def _get(files: ObjectStore, key: str, path: Path) -> None:
    with files.read(key) as chunks, path.open("wb") as file:
        file.writelines(chunks)


def _start(files: ObjectStore, key: str, size: int) -> bytes:
    with files.read(key, range(size)) as chunks:
        return b"".join(chunks)
