"""Identities derived from what they name, so that doing something again gives it the same id."""

from uuid import UUID, uuid5

from schemas.ids import ClientId, MessageId, TaskId, TrainingId
from schemas.words import TaskKind

_WARREN = UUID("6f0a5c5e-8b1f-5a52-9a43-2d3f4b0c7e11")


def derived(*parts: object) -> UUID:
    """The same parts give the same UUID (version 5) on every machine."""
    return uuid5(_WARREN, "/".join(map(str, parts)))


def event_id(training: TrainingId, sequence: int) -> MessageId:
    return MessageId(derived("event", training, sequence))


def order_id(*parts: object) -> MessageId:
    """The id of a command: republished or decided again, it is the same command."""
    return MessageId(derived("order", *parts))


def task_order_id(task: TaskId) -> MessageId:
    """Of the command that asks a client for this task."""
    return order_id(task, "task")


def task_id(  # noqa: PLR0913, PLR0917 -- the six coordinates of a task
    training: TrainingId, kind: TaskKind, round_: int, attempt: int, client: ClientId, issue: int
) -> TaskId:
    """`attempt` counts the round's attempts, `issue` how often this client was asked within one."""
    return TaskId(derived("task", training, kind, round_, attempt, client, issue))
