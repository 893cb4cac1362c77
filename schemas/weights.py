"""References to weights that lie in the object store."""

from typing import Annotated

from pydantic import Field, StringConstraints

from schemas.ids import ClientId, ModelId, TaskId
from schemas.message import Examples, Round, Sha256, Words
from schemas.words import Slot

ObjectKey = Annotated[str, StringConstraints(min_length=1, max_length=512)]
ETag = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Size = Annotated[int, Field(ge=8, le=2**53)]
Blake3 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

PartDigests = Annotated[tuple[Blake3, ...], Field(min_length=1, max_length=1 + len(Slot))]

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


class StateRef(Words):
    """One part of a strategy's state, as it was committed with a version of the model: a safetensors file."""

    slot: Slot
    key: ObjectKey
    sha256: Sha256
    size: Size


TensorIndices = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
State = Annotated[tuple[StateRef, ...], Field(max_length=len(Slot))]


class PlannedUpdate(Words):
    """One accepted update: what to read, how to recognise it, and what its weight follows from.

    `tensors` are those a partial update holds, by their places in the model's layout, ascending; None: all.
    `digests` are BLAKE3, one per shard: of what this file holds of it, in the order of the file's bytes.
    Shards are ranges of the model's data; an extra tensor belongs to the shards of the tensor it goes with.
    `distance` is the L2 norm of its difference from the current model, over all floating-point tensors.
    """

    client_id: ClientId
    task_id: TaskId
    key: ObjectKey
    etag: ETag
    sha256: Sha256
    num_examples: Examples
    digests: Annotated[tuple[Blake3, ...], Field(max_length=MAX_SHARDS)]
    norm: float = Field(ge=0)
    distance: float | None = Field(default=None, ge=0)
    loss: float | None = None
    tensors: TensorIndices | None = None
