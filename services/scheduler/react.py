"""What must be asked of whom because something has happened."""

from schemas import commands as c
from schemas import events as e
from schemas import keys
from schemas import reports as r
from schemas.events import Event
from schemas.identity import order_id, task_order_id
from schemas.ids import ClientId, TaskId
from schemas.timers import EvaluationTimedOut, RoundTimedOut
from schemas.weights import ModelRef
from schemas.words import Outcome, Slot, TaskKind
from services.scheduler.orders import ClearTimer, Order, Send, SetTimer, Settle, SettleAll
from services.scheduler.reducing import extra_of
from services.scheduler.state import Round, TaskState, Training
from services.scheduler.workers import begin_stage, go_on, inspect, inspection, orders_of, publication


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
            return Settle((task_order_id(event.task_id),)), inspect(training, event)
        case r.MetricsReported() | r.TaskFailed():
            return (Settle((task_order_id(event.task_id),)),)
        case r.UpdateAccepted() | r.UpdateRejected():
            return (Settle((inspection(event.task_id),)),)
        case e.IntakeClosed() | e.EvaluationEnded():
            return (ClearTimer(), *_cancel(training, "the deadline has passed"))
        case e.ParticipantRemoved():
            return _dismiss(training, event)
        case e.RoundClosed():
            return ClearTimer(), *begin_stage(training)
        case r.ShardMeasured() | r.UpdatesChosen() | r.ShardReduced():
            return go_on(training, event)
        case r.UpdateLost() | r.RoundRefused():
            return (Settle(orders_of(training)),)
        case e.RoundAbandoned() | e.RoundChained():
            return (ClearTimer(),)
        case e.RoundAggregated():
            return (Settle((publication(training),)),)
        case e.TrainingCompleted():
            return _tell_all(training, Outcome.COMPLETED, event.reason)
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
    plan = training.plan
    return Send(
        task_order_id(task),
        c.TrainRound(
            training_id=training.id,
            task_id=task,
            client_id=client,
            round=current.number,
            attempt=current.attempt,
            model=_model_for(training, task),
            update=plan.update,
            partial=plan.partial,
            extra=extra_of(training),
            state=next((part for part in training.slots if part.slot is Slot.CONTROL), None),
            config=plan.config_of(current.number),
            deadline_at=current.deadline_at,
        ),
    )


def _model_for(training: Training, task: TaskId) -> ModelRef:
    """In a daisy chain it is another client's update: a file of the same layout."""
    link = _round(training).tasks[task].goes_on_with
    if link is None:
        return training.model
    key = keys.update(training.id, link.round, link.task_id)
    return training.model.model_copy(update={"key": key, "sha256": link.sha256})


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


def _round(training: Training) -> Round:
    assert training.round is not None, "this follows from something within a round"
    return training.round
