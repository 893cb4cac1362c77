"""Reports: what clients and aggregator workers tell the scheduler.

A report that changes something is recorded in the training's events under its own name.
"""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from schemas.ids import ClientId, TaskId
from schemas.message import (
    MAX_CLIENTS,
    Epoch,
    Examples,
    Message,
    Metrics,
    Reason,
    Round,
    Sha256,
    TaskMessage,
    TrainingMessage,
    Version,
)
from schemas.weights import MAX_SHARDS, Blake3, ETag, ModelRef, PartDigests, State, TensorIndices

TasksInHand = Annotated[tuple[TaskId, ...], Field(max_length=1_000)]
Code = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]


class ModelUploaded(TaskMessage):
    """The update of a task lies in the store."""

    type: Literal["ModelUploaded"] = "ModelUploaded"
    sha256: Sha256
    num_examples: Examples
    metrics: Metrics = Field(default_factory=dict)


class MetricsReported(TaskMessage):
    """The new model, evaluated on a client's own data."""

    type: Literal["MetricsReported"] = "MetricsReported"
    num_examples: Examples
    metrics: Metrics


class TaskFailed(TaskMessage):
    """The user code of a task has failed for good."""

    type: Literal["TaskFailed"] = "TaskFailed"
    reason: Reason  # what went wrong, then the tail of the user code's output


class ClientRejected(TrainingMessage):
    """The site does not take part (any longer): it leaves the training and the round goes on without it."""

    type: Literal["ClientRejected"] = "ClientRejected"
    client_id: ClientId
    reason: Reason


class Heartbeat(Message):
    """A sign of life, with the tasks in hand.  The last one of a graceful shutdown says `leaving`.

    `waiting` are those of them that need fresh URLs: their orders are sent again at once.
    """

    type: Literal["Heartbeat"] = "Heartbeat"
    client_id: ClientId
    tasks: TasksInHand = ()
    waiting: TasksInHand = ()
    leaving: bool = False
    version: Version = ""


class UpdateAccepted(TaskMessage):
    """The file is what it must be.  `digests`, `distance` and `tensors` are as in `PlannedUpdate`."""

    type: Literal["UpdateAccepted"] = "UpdateAccepted"
    sha256: Sha256
    etag: ETag
    norm: float = Field(ge=0)
    digests: Annotated[tuple[Blake3, ...], Field(max_length=MAX_SHARDS)]
    distance: float | None = Field(default=None, ge=0)
    tensors: TensorIndices | None = None


class UpdateRejected(TaskMessage):
    """The file is not what it must be; its client may be asked once more."""

    type: Literal["UpdateRejected"] = "UpdateRejected"
    code: Code
    reason: Reason


class UpdateLost(TaskMessage):
    """An accepted file has vanished or changed since it was inspected: the round closes again without it."""

    type: Literal["UpdateLost"] = "UpdateLost"
    epoch: Epoch
    reason: Reason


class ShardMeasured(TrainingMessage):
    """What was added up over one byte range lies in the store."""

    type: Literal["ShardMeasured"] = "ShardMeasured"
    round: Round
    epoch: Epoch
    shard: int = Field(ge=0, lt=MAX_SHARDS)
    digest: Blake3


class UpdatesChosen(TrainingMessage):
    """The strategy keeps the updates of these clients, sorted by id."""

    type: Literal["UpdatesChosen"] = "UpdatesChosen"
    round: Round
    epoch: Epoch
    clients: Annotated[tuple[ClientId, ...], Field(min_length=1, max_length=MAX_CLIENTS)]


class ShardReduced(TrainingMessage):
    """One byte range of the next model, and of the strategy's next state, lies in the store."""

    type: Literal["ShardReduced"] = "ShardReduced"
    round: Round
    epoch: Epoch
    shard: int = Field(ge=0, lt=MAX_SHARDS)
    digests: PartDigests  # of the model's part, then of each slot's


class RoundRefused(TrainingMessage):
    """The updates of a closed round cannot be combined, whoever tries: this attempt of the round is over."""

    type: Literal["RoundRefused"] = "RoundRefused"
    round: Round
    epoch: Epoch
    code: Code
    reason: Reason


class ModelPublished(TrainingMessage):
    """The next version of the model lies in the store, whole, and the strategy's state beside it."""

    type: Literal["ModelPublished"] = "ModelPublished"
    round: Round
    epoch: Epoch
    model: ModelRef
    state: State = ()


ClientReport = Annotated[
    ModelUploaded | MetricsReported | TaskFailed | ClientRejected | Heartbeat, Field(discriminator="type")
]
AggregatorReport = Annotated[
    UpdateAccepted
    | UpdateRejected
    | UpdateLost
    | ShardMeasured
    | UpdatesChosen
    | ShardReduced
    | RoundRefused
    | ModelPublished,
    Field(discriminator="type"),
]
