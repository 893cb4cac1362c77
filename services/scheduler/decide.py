"""What happens because of one message."""

from datetime import datetime
from typing import assert_never

from schemas import commands as c
from schemas import events as e
from schemas import reports as r
from schemas import timers as t
from schemas.message import MAX_CLIENTS
from schemas.strategies import QFedAvg
from schemas.words import Phase
from services.scheduler.aggregating import aggregating
from services.scheduler.phases import Events, begin, current_round, end_evaluation, settle, task_of, then
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
            return _uploaded(training, message, now)
        case r.UpdateAccepted() | r.UpdateRejected():
            return _inspected(training, message, now)
        case r.TaskFailed():
            return _failed(training, message, now)
        case (
            r.ShardMeasured()
            | r.UpdatesChosen()
            | r.ShardReduced()
            | r.UpdateLost()
            | r.RoundRefused()
            | r.ModelPublished()
        ):
            return aggregating(training, message, now)
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


def _uploaded(training: Training, message: r.ModelUploaded, now: datetime) -> Events:
    task = task_of(training, message, TaskState.OPEN, Phase.TRAINING)
    if task is None:
        return ()
    refused = _without_loss(training, message)
    return (message,) if refused is None else _gone_wrong(training, task, now, message, refused)


def _without_loss(training: Training, message: r.ModelUploaded) -> r.UpdateRejected | None:
    """Fair weights follow from the losses: an update without one is as good as a broken file."""
    strategy = training.plan.strategy
    if not isinstance(strategy, QFedAvg) or message.metrics.get(strategy.loss_metric, -1.0) >= 0:
        return None
    return r.UpdateRejected(
        training_id=training.id,
        task_id=message.task_id,
        client_id=message.client_id,
        round=message.round,
        code="no_loss",
        reason=f"QFedAvg needs the metric {strategy.loss_metric!r}, a number of 0 or more",
    )


def _inspected(training: Training, message: r.UpdateAccepted | r.UpdateRejected, now: datetime) -> Events:
    task = task_of(training, message, TaskState.UPLOADED, Phase.TRAINING)
    if task is None:
        return ()
    if isinstance(message, r.UpdateRejected):
        return _gone_wrong(training, task, now, message)
    return then((message,), training, lambda after: settle(after, now))


def _failed(training: Training, message: r.TaskFailed, now: datetime) -> Events:
    task = task_of(training, message, TaskState.OPEN)
    return _gone_wrong(training, task, now, message) if task else ()


def _gone_wrong(training: Training, task: Task, now: datetime, *events: e.Event) -> Events:
    return then((*events, *_reissue(training, task)), training, lambda after: settle(after, now))


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


# Evaluation


def _measured(training: Training, message: r.MetricsReported, now: datetime) -> Events:
    task = task_of(training, message, TaskState.OPEN, Phase.EVALUATING)
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
