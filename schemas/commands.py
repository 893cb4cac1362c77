"""Commands: imperatives with one addressee."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from schemas.ids import ClientId
from schemas.message import (
    MAX_CLIENTS,
    Attempt,
    Epoch,
    Reason,
    Round,
    Sha256,
    TaskMessage,
    TrainingMessage,
    UserConfig,
    Words,
)
from schemas.plan import Plan
from schemas.weights import MAX_SHARDS, Blake3, ModelRef, ObjectKey, PartDigests, StateRef
from schemas.words import Extra, Outcome, UpdateKind

Clients = Annotated[tuple[ClientId, ...], Field(max_length=MAX_CLIENTS)]
Url = Annotated[str, StringConstraints(max_length=4_096)]


class StartTraining(TrainingMessage):
    """Begin: the plan has been validated, the model lies in the store."""

    type: Literal["StartTraining"] = "StartTraining"
    plan: Plan
    model: ModelRef
    participants: Clients


class AbortTraining(TrainingMessage):
    """End the training now; nothing it has begun counts."""

    type: Literal["AbortTraining"] = "AbortTraining"
    reason: Reason


class AddParticipants(TrainingMessage):
    """These clients are to take part as well."""

    type: Literal["AddParticipants"] = "AddParticipants"
    clients: Clients


class RemoveParticipants(TrainingMessage):
    """These clients are not to take part any longer."""

    type: Literal["RemoveParticipants"] = "RemoveParticipants"
    clients: Clients
    reason: Reason


class Access(Words):
    """Capabilities of limited life, signed when the command is relayed.

    Never stored, logged or put in an event.
    """

    download_url: Url = Field(repr=False)
    upload_url: Url | None = Field(default=None, repr=False)
    upload_headers: dict[str, str] = Field(default_factory=dict, repr=False)
    state_url: Url | None = Field(default=None, repr=False)  # of the order's `state`
    expires_at: datetime


class TrainRound(TaskMessage):
    """Train this model on your data and upload what comes of it before the deadline.

    `state` is the part of the strategy's state that clients need; `extra` is uploaded beside the weights.
    """

    type: Literal["TrainRound"] = "TrainRound"
    attempt: Attempt
    model: ModelRef
    update: UpdateKind = UpdateKind.WEIGHTS
    partial: bool = False
    extra: Extra | None = None
    state: StateRef | None = None
    config: UserConfig
    deadline_at: datetime
    access: Access | None = None


class EvaluateModel(TaskMessage):
    """Evaluate this model on your data and report the metrics before the deadline."""

    type: Literal["EvaluateModel"] = "EvaluateModel"
    model: ModelRef
    config: UserConfig
    deadline_at: datetime
    access: Access | None = None


class CancelTask(TaskMessage):
    """The result is not wanted any more: stop the user code and forget the task."""

    type: Literal["CancelTask"] = "CancelTask"
    reason: Reason


class TrainingEnded(TrainingMessage):
    """The training is over, or over for you: forget its tasks."""

    type: Literal["TrainingEnded"] = "TrainingEnded"
    client_id: ClientId
    outcome: Outcome
    reason: Reason | None = None
    model: ModelRef | None = None


class InspectUpdate(TaskMessage):
    """Check an uploaded file against the model it must look like, and against what was reported.

    `measures` asks for its distance from the model too.
    """

    type: Literal["InspectUpdate"] = "InspectUpdate"
    key: ObjectKey
    sha256: Sha256
    model: ModelRef
    update: UpdateKind = UpdateKind.WEIGHTS
    partial: bool = False
    extra: Extra | None = None
    measures: bool = False
    shard_bytes: int = Field(ge=8)


class MeasureShard(TrainingMessage):
    """Add up what the updates' distances from one another follow from, over one byte range."""

    type: Literal["MeasureShard"] = "MeasureShard"
    round: Round
    epoch: Epoch
    plan: ObjectKey
    plan_sha256: Sha256
    shard: int = Field(ge=0, lt=MAX_SHARDS)


class ChooseUpdates(TrainingMessage):
    """Choose the updates that the strategy keeps.

    `shards` are the digests of what was measured; none if the plan has a single shard, measured on the way.
    """

    type: Literal["ChooseUpdates"] = "ChooseUpdates"
    round: Round
    epoch: Epoch
    plan: ObjectKey
    plan_sha256: Sha256
    shards: Annotated[tuple[Blake3, ...], Field(max_length=MAX_SHARDS)]


class ReduceShard(TrainingMessage):
    """Combine one byte range of all updates of a reduce plan."""

    type: Literal["ReduceShard"] = "ReduceShard"
    round: Round
    epoch: Epoch
    plan: ObjectKey
    plan_sha256: Sha256
    shard: int = Field(ge=0, lt=MAX_SHARDS)


class PublishModel(TrainingMessage):
    """Put header and shards together as the version after `model`, and the strategy's state beside it.

    `shards` are the digests of their parts, the model's first, then one of each slot of the strategy; none if
    the plan has a single shard, which is then reduced on the way.
    """

    type: Literal["PublishModel"] = "PublishModel"
    round: Round
    epoch: Epoch
    model: ModelRef
    plan: ObjectKey
    plan_sha256: Sha256
    shards: Annotated[tuple[PartDigests, ...], Field(max_length=MAX_SHARDS)]


SchedulerCommand = Annotated[
    StartTraining | AbortTraining | AddParticipants | RemoveParticipants, Field(discriminator="type")
]
ClientCommand = Annotated[
    TrainRound | EvaluateModel | CancelTask | TrainingEnded, Field(discriminator="type")
]
AggregatorCommand = Annotated[
    InspectUpdate | MeasureShard | ChooseUpdates | ReduceShard | PublishModel, Field(discriminator="type")
]
