"""References to weights that lie in the object store."""

from typing import Annotated

from pydantic import Field, StringConstraints

from schemas.ids import ClientId, ModelId, TaskId
from schemas.message import Examples, Round, Sha256, Words

ObjectKey = Annotated[str, StringConstraints(min_length=1, max_length=512)]
ETag = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Size = Annotated[int, Field(ge=8, le=2**53)]
Blake3 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

MAX_SHARDS = 4_096


class ModelRef(Words):
    """One version of a model: a canonical safetensors file.

    `size` counts the whole file, `header_size` the bytes before the first tensor; every update of a
    training has the same two figures and the same header bytes.
    """

    model_id: ModelId
    version: Round
    key: ObjectKey
    sha256: Sha256
    size: Size
    header_size: Size


class PlannedUpdate(Words):
    """One accepted update: what to read, how to recognise it, and how much it counts."""

    client_id: ClientId
    task_id: TaskId
    key: ObjectKey
    etag: ETag
    sha256: Sha256
    weight: Examples
    digests: Annotated[tuple[Blake3, ...], Field(max_length=MAX_SHARDS)]
