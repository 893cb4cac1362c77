"""What a task needs next, by what is on disk about it, and what its row becomes when something happened."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from schemas.commands import EvaluateModel, TrainRound
from schemas.identity import derived
from schemas.ids import MessageId
from schemas.message import Examples, Metrics, Sha256, Words
from schemas.reports import ClientRejected, MetricsReported, ModelUploaded, TaskFailed
from schemas.weights import ModelRef, StateRef

Order = TrainRound | EvaluateModel
File = ModelRef | StateRef
Report = ModelUploaded | MetricsReported | TaskFailed | ClientRejected

MAX_REASON = 4_000
_FIRST_REST_S = 5
_LONGEST_REST_S = 300


class Step(StrEnum):
    """The last thing that is done and on disk."""

    RECEIVED = "received"
    DOWNLOADED = "downloaded"
    TRAINED = "trained"
    UPLOADED = "uploaded"
    REPORTED = "reported"
    CANCELLED = "cancelled"


class Action(StrEnum):
    """What to do next."""

    DOWNLOAD = "download"
    RUN = "run"
    UPLOAD = "upload"
    REPORT = "report"
    AWAIT_TICKET = "await ticket"
    REST = "rest"
    GIVE_UP = "give up"
    NOTHING = "nothing"


class Result(Words):
    """What the user code found."""

    num_examples: Examples
    metrics: Metrics = Field(default_factory=dict)


class Task(Words):
    """One row of the journal.  The order is kept without its capabilities."""

    order: Annotated[Order, Field(discriminator="type")]
    step: Step = Step.RECEIVED
    result: Result | None = None
    sha256: Sha256 | None = None  # of the update
    refusal: Annotated[TaskFailed | ClientRejected, Field(discriminator="type")] | None = None
    rests: int = 0  # how often the user code asked to be tried later
    rests_until: datetime | None = None

    @property
    def is_open(self) -> bool:
        return self.step not in (Step.REPORTED, Step.CANCELLED)

    @property
    def files(self) -> tuple[File, ...]:
        """What must be there before the user code runs."""
        state = state_of(self.order)
        return (self.order.model, state) if state else (self.order.model,)


@dataclass(frozen=True, slots=True)
class Situation:
    """What the journal does not know: URLs live in memory, and files may vanish."""

    has_ticket: bool
    has_files: bool  # all that the user code needs
    now: datetime


def state_of(order: Order) -> StateRef | None:
    """The part of the strategy's state that comes with the model."""
    return order.state if isinstance(order, TrainRound) else None


def next_action(task: Task, situation: Situation) -> Action:
    if not task.is_open:
        return Action.NOTHING
    if task.refusal or task.step == Step.UPLOADED:
        return Action.REPORT
    if situation.now >= task.order.deadline_at:
        return Action.GIVE_UP
    if task.step == Step.TRAINED:
        return Action.UPLOAD if situation.has_ticket else Action.AWAIT_TICKET
    if task.step == Step.DOWNLOADED and situation.has_files:
        return Action.REST if task.rests_until and situation.now < task.rests_until else Action.RUN
    return Action.DOWNLOAD if situation.has_files or situation.has_ticket else Action.AWAIT_TICKET


def wakes_at(task: Task, action: Action) -> datetime:
    """When a task that rests or waits must be looked at again, whatever happens."""
    deadline = task.order.deadline_at
    return min(task.rests_until, deadline) if action == Action.REST and task.rests_until else deadline


def received(order: Order, refusal: str | None = None) -> Task:
    """A new task; with a refusal, the site does not take part in its training."""
    task = Task(order=order.model_copy(update={"access": None}))
    if refusal is None:
        return task
    said = ClientRejected(
        training_id=order.training_id, client_id=order.client_id, reason=refusal[:MAX_REASON]
    )
    return _changed(task, refusal=said)


def ordered_again(task: Task) -> Task:
    """A repeated order: what was reported is reported again, everything else goes on as it was."""
    return _changed(task, step=Step.UPLOADED) if task.step == Step.REPORTED else task


def downloaded(task: Task) -> Task:
    return _changed(task, step=Step.DOWNLOADED)


def finished(task: Task, result: Result, sha256: str | None) -> Task:
    """The user code is done.  An evaluation leaves nothing to upload."""
    step = Step.UPLOADED if sha256 is None else Step.TRAINED
    return _changed(task, step=step, result=result, sha256=sha256)


def postponed(task: Task, now: datetime) -> Task:
    """The user code asked to be tried later: each time twice as late."""
    seconds = min(_FIRST_REST_S * 2**task.rests, _LONGEST_REST_S)
    return _changed(task, rests=task.rests + 1, rests_until=now + timedelta(seconds=seconds))


def uploaded(task: Task) -> Task:
    return _changed(task, step=Step.UPLOADED)


def failed(task: Task, reason: str) -> Task:
    order = task.order
    said = TaskFailed(
        training_id=order.training_id,
        task_id=order.task_id,
        client_id=order.client_id,
        round=order.round,
        reason=reason[:MAX_REASON],
    )
    return _changed(task, refusal=said)


def gave_up(task: Task) -> Task:
    when = task.order.deadline_at.isoformat(timespec="seconds")
    return failed(task, f"the deadline {when} passed when the task was no further than {task.step}")


def reported(task: Task) -> Task:
    return _changed(task, step=Step.REPORTED)


def cancelled(task: Task) -> Task:
    return _changed(task, step=Step.CANCELLED)


def report_of(task: Task) -> Report:
    """What the scheduler is told.  Only of a task that has an outcome."""
    if task.refusal:
        return task.refusal
    order, result = task.order, task.result
    assert result is not None, "a task without an outcome has nothing to report"
    found = MetricsReported(
        training_id=order.training_id,
        task_id=order.task_id,
        client_id=order.client_id,
        round=order.round,
        num_examples=result.num_examples,
        metrics=result.metrics,
    )
    if isinstance(order, EvaluateModel):
        return found
    assert task.sha256 is not None, "a trained task has an update"
    return ModelUploaded(**found.model_dump(exclude={"type"}), sha256=task.sha256)


def report_id(task: Task) -> MessageId:
    """The same report has the same id, however often it is sent."""
    return MessageId(derived("report", task.order.task_id, report_of(task).type))


def _changed(task: Task, **fields: object) -> Task:
    return task.model_copy(update=fields)
