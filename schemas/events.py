"""Events: what happened to a training, in the order it happened."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from schemas.commands import Clients
from schemas.ids import ClientId, TaskId
from schemas.message import (
    MAX_CLIENTS,
    Attempt,
    Epoch,
    Metrics,
    Reason,
    Round,
    TaskMessage,
    TrainingMessage,
)
from schemas.plan import Plan
from schemas.reports import (
    ClientRejected,
    MetricsReported,
    ModelUploaded,
    RoundRefused,
    ShardMeasured,
    ShardReduced,
    TaskFailed,
    UpdateAccepted,
    UpdateLost,
    UpdateRejected,
    UpdatesChosen,
)
from schemas.weights import ModelRef, State
from schemas.words import TaskKind

Tasks = Annotated[tuple[TaskId, ...], Field(max_length=MAX_CLIENTS)]


class TrainingStarted(TrainingMessage):
    """A training has begun, with everything it needs."""

    type: Literal["TrainingStarted"] = "TrainingStarted"
    plan: Plan
    model: ModelRef
    participants: Clients


class RoundStarted(TrainingMessage):
    """`clients` were drawn for this attempt; their task ids follow from it.

    In a daisy chain each goes on with the update of one task of the round before, drawn by lot: `continues`
    has them in the order of `clients`.  Otherwise it is empty, and all start from the current model.
    """

    type: Literal["RoundStarted"] = "RoundStarted"
    round: Round
    attempt: Attempt
    clients: Clients
    deadline_at: datetime
    continues: Tasks = ()


class TaskReissued(TaskMessage):
    """A client whose task failed or whose update was rejected is asked once more, under a new task id."""

    type: Literal["TaskReissued"] = "TaskReissued"
    kind: TaskKind
    issue: Attempt
    replaces: TaskId


class ParticipantsAdded(TrainingMessage):
    """They take part from the next round on."""

    type: Literal["ParticipantsAdded"] = "ParticipantsAdded"
    clients: Clients


class ParticipantRemoved(TrainingMessage):
    """A client has left, by its own choice or an operator's; what it delivered before still counts."""

    type: Literal["ParticipantRemoved"] = "ParticipantRemoved"
    client_id: ClientId
    reason: Reason


class IntakeClosed(TrainingMessage):
    """The round's deadline has passed: uploads that are here are still inspected, later ones do not count."""

    type: Literal["IntakeClosed"] = "IntakeClosed"
    round: Round
    attempt: Attempt
    missing: Clients


class RoundClosed(TrainingMessage):
    """The accepted set is frozen.  A second close of a round (an update was lost) has a higher epoch."""

    type: Literal["RoundClosed"] = "RoundClosed"
    round: Round
    attempt: Attempt
    epoch: Epoch
    accepted: Tasks


class RoundAbandoned(TrainingMessage):
    """Too few updates: this attempt of the round has ended without a model."""

    type: Literal["RoundAbandoned"] = "RoundAbandoned"
    round: Round
    attempt: Attempt
    reason: Reason
    missing: Clients


class RoundChained(TrainingMessage):
    """The round has ended without a new version: its accepted updates are passed on to other clients.

    `metrics` are means of what their clients said of the training, each counted by its examples.
    """

    type: Literal["RoundChained"] = "RoundChained"
    round: Round
    attempt: Attempt
    accepted: Tasks
    metrics: Metrics = Field(default_factory=dict)


class RoundAggregated(TrainingMessage):
    """The round has ended with a new version of the model, and of the strategy's state.

    `metrics` are means of what the clients said of the training, each counted by its examples.
    """

    type: Literal["RoundAggregated"] = "RoundAggregated"
    round: Round
    epoch: Epoch
    model: ModelRef
    state: State = ()
    metrics: Metrics = Field(default_factory=dict)


class EvaluationStarted(TrainingMessage):
    """All participants evaluate the round's model."""

    type: Literal["EvaluationStarted"] = "EvaluationStarted"
    round: Round
    clients: Clients
    deadline_at: datetime


class EvaluationEnded(TrainingMessage):
    """Means of the clients' metrics, each counted by its examples."""

    type: Literal["EvaluationEnded"] = "EvaluationEnded"
    round: Round
    metrics: Metrics
    num_examples: int = Field(ge=0)
    missing: Clients


class TrainingCompleted(TrainingMessage):
    """Every round has ended, or no better model was found for long enough; `model` is the last one.

    `best` is the one the plan selects by its metric, if it selects any.
    """

    type: Literal["TrainingCompleted"] = "TrainingCompleted"
    model: ModelRef
    best: ModelRef | None = None
    reason: Reason | None = None  # why it has ended before its last round


class TrainingFailed(TrainingMessage):
    """The training cannot go on."""

    type: Literal["TrainingFailed"] = "TrainingFailed"
    reason: Reason
    missing: Clients = ()


class TrainingAborted(TrainingMessage):
    """An operator has ended the training."""

    type: Literal["TrainingAborted"] = "TrainingAborted"
    reason: Reason


Event = Annotated[
    TrainingStarted
    | RoundStarted
    | TaskReissued
    | ModelUploaded
    | UpdateAccepted
    | UpdateRejected
    | TaskFailed
    | ClientRejected
    | ParticipantsAdded
    | ParticipantRemoved
    | IntakeClosed
    | RoundClosed
    | RoundChained
    | ShardMeasured
    | UpdatesChosen
    | ShardReduced
    | UpdateLost
    | RoundRefused
    | RoundAbandoned
    | RoundAggregated
    | EvaluationStarted
    | MetricsReported
    | EvaluationEnded
    | TrainingCompleted
    | TrainingFailed
    | TrainingAborted,
    Field(discriminator="type"),
]
