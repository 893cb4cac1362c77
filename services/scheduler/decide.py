"""What happens because of one message."""

from datetime import datetime
from typing import assert_never

from schemas import commands as c
from schemas import events as e
from schemas import reports as r
from schemas import timers as t
from schemas.message import MAX_CLIENTS, TaskMessage
from schemas.weights import ModelRef
from schemas.words import Phase
from services.scheduler.phases import (
    Events,
    advance,
    begin,
    close,
    current_round,
    end_evaluation,
    evaluate,
    settle,
    then,
)
from services.scheduler.state import Task, TaskState, Training

Input = (
    c.SchedulerCommand
    | r.AggregatorReport
    | r.ModelUploaded
    | r.MetricsReported
    | r.TaskFailed
    | r.ClientRejected
    | t.TimerMessage
)


def decide(training: Training | None, message: Input, now: datetime) -> Events:
    """What happens because of one message.  Stale, repeated, foreign or illegal: nothing."""
    if isinstance(message, c.StartTraining):
        return _started(message, now) if training is None else ()
    if training is None or training.is_over:
        return ()
    return _decided(training, message, now)


def _decided(training: Training, message: Input, now: datetime) -> Events:  # noqa: C901, PLR0911, PLR0912 -- one case a message
    match message:
        case r.ModelUploaded():
            return _uploaded(training, message)
        case r.UpdateAccepted() | r.UpdateRejected():
            return _inspected(training, message, now)
        case r.TaskFailed():
            return _failed(training, message, now)
        case r.ShardReduced():
            return _reduced(training, message)
        case r.UpdateLost():
            return _lost(training, message, now)
        case r.ModelPublished():
            return _published(training, message, now)
        case r.MetricsReported():
            return _measured(training, message, now)
        case r.ClientRejected():
            return _rejected(training, message, now)
        case c.RemoveParticipants():
            return _removed(training, message, now)
        case c.AddParticipants():
            return _added(training, message)
        case c.AbortTraining():
            return (e.TrainingAborted(training_id=training.id, reason=message.reason),)
        case t.RoundTimedOut():
            return _round_timed_out(training, message, now)
        case t.EvaluationTimedOut():
            return _evaluation_timed_out(training, message, now)
        case c.StartTraining():
            return ()
        case _:
            assert_never(message)


def _started(message: c.StartTraining, now: datetime) -> Events:
    started = e.TrainingStarted(
        training_id=message.training_id,
        plan=message.plan,
        model=message.model,
        participants=tuple(sorted(set(message.participants))),
    )
    return then((started,), None, lambda training: begin(training, 0, 1, now))


# Rounds


def _uploaded(training: Training, message: r.ModelUploaded) -> Events:
    task = _task(training, message, TaskState.OPEN, Phase.TRAINING)
    return (message,) if task else ()


def _inspected(training: Training, message: r.UpdateAccepted | r.UpdateRejected, now: datetime) -> Events:
    task = _task(training, message, TaskState.UPLOADED, Phase.TRAINING)
    if task is None:
        return ()
    again = _reissue(training, task) if isinstance(message, r.UpdateRejected) else ()
    return then((message, *again), training, lambda after: settle(after, now))


def _failed(training: Training, message: r.TaskFailed, now: datetime) -> Events:
    task = _task(training, message, TaskState.OPEN)
    if task is None:
        return ()
    return then((message, *_reissue(training, task)), training, lambda after: settle(after, now))


def _reissue(training: Training, task: Task) -> Events:
    """A client that failed is asked once more, while the round still takes updates."""
    current = current_round(training)
    is_participant = task.client_id in training.participants
    if task.issue >= training.plan.participation.task_attempts or not (
        current.intake_is_open and is_participant
    ):
        return ()
    return (
        e.TaskReissued(
            training_id=training.id,
            task_id=training.id_of_task(task.client_id, task.issue + 1),
            client_id=task.client_id,
            round=current.number,
            kind=task.kind,
            issue=task.issue + 1,
            replaces=task.id,
        ),
    )


def _round_timed_out(training: Training, message: t.RoundTimedOut, now: datetime) -> Events:
    current = training.round
    if (
        current is None
        or current.phase is not Phase.TRAINING
        or not current.intake_is_open
        or (current.number, current.attempt) != (message.round, message.attempt)
    ):
        return ()
    closed = e.IntakeClosed(
        training_id=training.id,
        round=current.number,
        attempt=current.attempt,
        missing=tuple(task.client_id for task in current.in_state(TaskState.OPEN)),
    )
    return then((closed,), training, lambda after: settle(after, now))


# Aggregation


def _aggregating(training: Training, number: int, epoch: int) -> bool:
    current = training.round
    return (
        current is not None
        and current.phase is Phase.AGGREGATING
        and (current.number, training.epoch) == (number, epoch)
    )


def _reduced(training: Training, message: r.ShardReduced) -> Events:
    if not _aggregating(training, message.round, message.epoch) or _is_publishing(training):
        return ()
    shards = current_round(training).shards
    return (message,) if message.shard < len(shards) and not shards[message.shard] else ()


def _lost(training: Training, message: r.UpdateLost, now: datetime) -> Events:
    if not _aggregating(training, message.round, message.epoch) or all(current_round(training).shards):
        return ()
    task = _task(training, message, TaskState.ACCEPTED, Phase.AGGREGATING)
    return then((message,), training, lambda after: close(after, now)) if task else ()


def _is_publishing(training: Training) -> bool:
    """A single shard is reduced by whoever publishes it."""
    shards = current_round(training).shards
    return len(shards) == 1 or all(shards)


def _follows(next_: ModelRef, current: ModelRef) -> bool:
    """Whether it can be the next version: the same model in a file of the same layout."""
    return (next_.model_id, next_.version, next_.size, next_.header_size) == (
        current.model_id,
        current.version + 1,
        current.size,
        current.header_size,
    )


def _published(training: Training, message: r.ModelPublished, now: datetime) -> Events:
    is_awaited = _aggregating(training, message.round, message.epoch) and _is_publishing(training)
    if not is_awaited or not _follows(message.model, training.model):
        return ()
    aggregated = e.RoundAggregated(
        training_id=training.id, round=message.round, epoch=message.epoch, model=message.model
    )
    following = evaluate if training.plan.evaluates(message.round) else advance
    return then((aggregated,), training, lambda after: following(after, now))


# Evaluation


def _measured(training: Training, message: r.MetricsReported, now: datetime) -> Events:
    task = _task(training, message, TaskState.OPEN, Phase.EVALUATING)
    return then((message,), training, lambda after: settle(after, now)) if task else ()


def _evaluation_timed_out(training: Training, message: t.EvaluationTimedOut, now: datetime) -> Events:
    current = training.round
    if current is None or current.phase is not Phase.EVALUATING or current.number != message.round:
        return ()
    return end_evaluation(training, now)


# Participants


def _rejected(training: Training, message: r.ClientRejected, now: datetime) -> Events:
    if message.client_id not in training.participants:
        return ()
    removed = e.ParticipantRemoved(
        training_id=training.id, client_id=message.client_id, reason=message.reason
    )
    return then((message, removed), training, lambda after: settle(after, now))


def _removed(training: Training, message: c.RemoveParticipants, now: datetime) -> Events:
    removed = tuple(
        e.ParticipantRemoved(training_id=training.id, client_id=client, reason=message.reason)
        for client in sorted(set(message.clients) & set(training.participants))
    )
    return then(removed, training, lambda after: settle(after, now)) if removed else ()


def _added(training: Training, message: c.AddParticipants) -> Events:
    new = tuple(sorted(set(message.clients) - set(training.participants)))
    is_room = len(training.participants) + len(new) <= MAX_CLIENTS
    return (e.ParticipantsAdded(training_id=training.id, clients=new),) if new and is_room else ()


# Helpers


def _task(
    training: Training, message: TaskMessage, state: TaskState, phase: Phase | None = None
) -> Task | None:
    """The task a message is about, if it is in that state, that client's, and of the current phase."""
    current = training.round
    if current is None or (phase is not None and current.phase is not phase):
        return None
    task = current.tasks.get(message.task_id)
    is_meant = (
        task is not None
        and task.state is state
        and (task.client_id, current.number) == (message.client_id, message.round)
    )
    return task if is_meant else None
