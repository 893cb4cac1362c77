"""What must be asked of whom because something has happened."""

import hashlib

from schemas import commands as c
from schemas import events as e
from schemas import keys
from schemas import reports as r
from schemas.events import Event
from schemas.identity import order_id, task_order_id
from schemas.ids import ClientId, MessageId, TaskId
from schemas.timers import EvaluationTimedOut, RoundTimedOut
from schemas.words import Outcome, TaskKind
from services.scheduler.orders import ClearTimer, Order, Send, SetTimer, Settle, SettleAll, StoreObject
from services.scheduler.reducing import plan_of, shard_bytes
from services.scheduler.state import Round, TaskState, Training


def react(training: Training, event: Event) -> tuple[Order, ...]:  # noqa: C901, PLR0911, PLR0912 -- one case an event
    """The orders that follow from `event`, given the state after it.  Commands answered by it are settled."""
    match event:
        case e.RoundStarted():
            timer = RoundTimedOut(training_id=training.id, round=event.round, attempt=event.attempt)
            tasks = _ask_all(training, TaskKind.TRAIN, event.clients)
            return (SetTimer(timer, event.deadline_at), *tasks)
        case e.EvaluationStarted():
            until = EvaluationTimedOut(training_id=training.id, round=event.round)
            tasks = _ask_all(training, TaskKind.EVALUATE, event.clients)
            return (SetTimer(until, event.deadline_at), *tasks)
        case e.TaskReissued():
            return (_ask(training, event.kind, event.task_id, event.client_id),)
        case r.ModelUploaded():
            return Settle((task_order_id(event.task_id),)), _inspect(training, event)
        case r.MetricsReported() | r.TaskFailed():
            return (Settle((task_order_id(event.task_id),)),)
        case r.UpdateAccepted() | r.UpdateRejected():
            return (Settle((_inspection(event.task_id),)),)
        case e.IntakeClosed() | e.EvaluationEnded():
            return (ClearTimer(), *_cancel(training, "the deadline has passed"))
        case e.ParticipantRemoved():
            return _dismiss(training, event)
        case e.RoundClosed():
            return ClearTimer(), *_reduce(training)
        case r.ShardReduced():
            return Settle((_shard_order(training, event.shard),)), *_publish_when_whole(training)
        case r.UpdateLost():
            shards = range(len(_round(training).shards))
            orders = (_publication(training), *(_shard_order(training, shard) for shard in shards))
            return (Settle(orders),)
        case e.RoundAbandoned():
            return (ClearTimer(),)
        case e.RoundAggregated():
            return (Settle((_publication(training),)),)
        case e.TrainingCompleted():
            return _tell_all(training, Outcome.COMPLETED)
        case e.TrainingFailed():
            return _tell_all(training, Outcome.FAILED, event.reason)
        case e.TrainingAborted():
            return _tell_all(training, Outcome.ABORTED, event.reason)
        case e.TrainingStarted() | e.ParticipantsAdded() | r.ClientRejected():
            return ()


# Clients


def _ask_all(training: Training, kind: TaskKind, clients: tuple[ClientId, ...]) -> tuple[Send, ...]:
    return tuple(_ask(training, kind, training.id_of_task(client), client) for client in clients)


def _ask(training: Training, kind: TaskKind, task: TaskId, client: ClientId) -> Send:
    current = _round(training)
    if kind is TaskKind.EVALUATE:
        return Send(
            task_order_id(task),
            c.EvaluateModel(
                training_id=training.id,
                task_id=task,
                client_id=client,
                round=current.number,
                model=training.model,
                config=training.plan.config,
                deadline_at=current.deadline_at,
            ),
        )
    return Send(
        task_order_id(task),
        c.TrainRound(
            training_id=training.id,
            task_id=task,
            client_id=client,
            round=current.number,
            attempt=current.attempt,
            model=training.model,
            config=training.plan.config,
            deadline_at=current.deadline_at,
        ),
    )


def _cancel(training: Training, reason: str) -> tuple[Order, ...]:
    cancelled = _round(training).in_state(TaskState.CANCELLED)
    notices = tuple(
        Send(
            order_id(task.id, "CancelTask"),
            c.CancelTask(
                training_id=training.id,
                task_id=task.id,
                client_id=task.client_id,
                round=_round(training).number,
                reason=reason,
            ),
            until_answered=False,
        )
        for task in cancelled
    )
    return Settle(tuple(task_order_id(task.id) for task in cancelled)), *notices


def _dismiss(training: Training, event: e.ParticipantRemoved) -> tuple[Order, ...]:
    task = training.task_of(event.client_id)
    settled = (Settle((task_order_id(task.id),)),) if task is not None else ()
    return *settled, _tell(training, event.client_id, Outcome.REMOVED, event.reason)


def _tell_all(training: Training, outcome: Outcome, reason: str | None = None) -> tuple[Order, ...]:
    notices = tuple(_tell(training, client, outcome, reason) for client in training.participants)
    return ClearTimer(), SettleAll(), *notices


def _tell(training: Training, client: ClientId, outcome: Outcome, reason: str | None) -> Send:
    notice = c.TrainingEnded(
        training_id=training.id,
        client_id=client,
        outcome=outcome,
        reason=reason,
        model=training.model if outcome is Outcome.COMPLETED else None,
    )
    told = order_id(training.id, client, "TrainingEnded", training.seq)  # a client may leave more than once
    return Send(told, notice, until_answered=False)


# Aggregator


def _inspect(training: Training, event: r.ModelUploaded) -> Send:
    command = c.InspectUpdate(
        training_id=training.id,
        task_id=event.task_id,
        client_id=event.client_id,
        round=event.round,
        key=keys.update(training.id, event.round, event.task_id),
        sha256=event.sha256,
        model=training.model,
        shard_bytes=shard_bytes(training),
    )
    return Send(_inspection(event.task_id), command)


def _reduce(training: Training) -> tuple[Order, ...]:
    """A command per shard; a single shard is reduced by whoever publishes it."""
    key, body = _plan_object(training)
    stored = StoreObject(order_id(key), key, body)
    shards = range(len(_round(training).shards))
    if len(shards) == 1:
        return stored, _publish(training, ())
    sha256 = hashlib.sha256(body).hexdigest()
    return stored, *(_reduce_shard(training, key, sha256, shard) for shard in shards)


def _reduce_shard(training: Training, plan: str, sha256: str, shard: int) -> Send:
    command = c.ReduceShard(
        training_id=training.id,
        round=_round(training).number,
        epoch=training.epoch,
        plan=plan,
        plan_sha256=sha256,
        shard=shard,
    )
    return Send(_shard_order(training, shard), command)


def _publish_when_whole(training: Training) -> tuple[Send, ...]:
    shards = _round(training).shards
    return (_publish(training, shards),) if all(shards) else ()


def _publish(training: Training, shards: tuple[str, ...]) -> Send:
    key, body = _plan_object(training)
    command = c.PublishModel(
        training_id=training.id,
        round=_round(training).number,
        epoch=training.epoch,
        model=training.model,
        plan=key,
        plan_sha256=hashlib.sha256(body).hexdigest(),
        shards=shards,
    )
    return Send(_publication(training), command)


def _plan_object(training: Training) -> tuple[str, bytes]:
    key = keys.reduce_plan(training.id, _round(training).number, training.epoch)
    return key, plan_of(training).model_dump_json().encode()


# The ids of commands, by which their answers find them


def _inspection(task: TaskId) -> MessageId:
    return order_id(task, "InspectUpdate")


def _shard_order(training: Training, shard: int) -> MessageId:
    return order_id(training.id, _round(training).number, training.epoch, "ReduceShard", shard)


def _publication(training: Training) -> MessageId:
    return order_id(training.id, _round(training).number, training.epoch, "PublishModel")


def _round(training: Training) -> Round:
    assert training.round is not None, "this follows from something within a round"
    return training.round
