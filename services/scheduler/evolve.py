"""How a training changes: the only way is `evolve`."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypeVar, assert_never

from immutables import Map

from schemas import events as e
from schemas import reports as r
from schemas.events import Event
from schemas.identity import task_id
from schemas.ids import ClientId
from schemas.message import TaskMessage
from schemas.words import Phase, TaskKind, TrainingState
from services.scheduler.chaining import links
from services.scheduler.reducing import shard_count
from services.scheduler.selecting import after_evaluation
from services.scheduler.state import Link, Round, Task, TaskState, Training

Digest = TypeVar("Digest")

_NOTHING: Mapping[ClientId, Link] = {}


def fold(training: Training | None, events: Iterable[Event]) -> Training | None:
    for event in events:
        training = evolve(training, event)
    return training


def evolve(training: Training | None, event: Event) -> Training:
    """The state after `event`.  Folding a training's events from the first gives its state."""
    if isinstance(event, e.TrainingStarted):
        assert training is None, "a training starts once"
        return Training(event.training_id, event.plan, event.model, tuple(sorted(event.participants)), seq=1)
    assert training is not None, "the first event is TrainingStarted"
    return replace(_evolved(training, event), seq=training.seq + 1)


def _evolved(training: Training, event: Event) -> Training:  # noqa: C901, PLR0911, PLR0912 -- one case an event
    match event:
        case e.RoundStarted():
            return _begin(training, event, TaskKind.TRAIN, event.attempt, _passed_on(training, event))
        case e.EvaluationStarted():
            return _begin(training, event, TaskKind.EVALUATE, 1)
        case e.TaskReissued():
            return _reissued(training, event)
        case r.ModelUploaded():
            return _change(training, event, TaskState.UPLOADED, sha256=event.sha256, **_said(event))
        case r.UpdateAccepted():
            return _change(training, event, TaskState.ACCEPTED, **_inspected(event))
        case r.MetricsReported():
            return _change(training, event, TaskState.REPORTED, **_said(event))
        case r.UpdateRejected() | r.TaskFailed() | r.UpdateLost():
            return _change(training, event, TaskState.OUT)
        case e.ParticipantRemoved():
            return _without(training, event.client_id)
        case e.ParticipantsAdded():
            return replace(training, participants=tuple(sorted({*training.participants, *event.clients})))
        case e.IntakeClosed():
            return _round(_cancelled(training), intake_is_open=False)
        case e.RoundClosed():
            return _closed(training, event)
        case r.ShardMeasured():
            return _round(
                training, measured=_with_place(_current(training).measured, event.shard, event.digest)
            )
        case r.UpdatesChosen():
            return _round(training, chosen=event.clients)
        case r.ShardReduced():
            return _round(training, shards=_with_place(_current(training).shards, event.shard, event.digests))
        case e.RoundAggregated():
            ended = _round(training, phase=Phase.ENDED)
            return replace(ended, model=event.model, slots=event.state, chain=())
        case e.RoundChained():
            return replace(_round(training, phase=Phase.ENDED), chain=links(training))
        case e.RoundAbandoned():
            return _round(training, phase=Phase.ENDED)
        case e.EvaluationEnded():
            return _evaluated(_round(_cancelled(training), phase=Phase.ENDED), event)
        case e.TrainingCompleted():
            return _ended(training, TrainingState.COMPLETED, event.reason)
        case e.TrainingFailed():
            return _ended(training, TrainingState.FAILED, event.reason)
        case e.TrainingAborted():
            return _ended(training, TrainingState.ABORTED, event.reason)
        case r.ClientRejected() | r.RoundRefused():
            return training
        case e.TrainingStarted():
            raise AssertionError("handled by evolve")
        case _:
            assert_never(event)


def _begin(
    training: Training,
    event: e.RoundStarted | e.EvaluationStarted,
    kind: TaskKind,
    attempt: int,
    passed_on: Mapping[ClientId, Link] = _NOTHING,
) -> Training:
    ids = {client: task_id(training.id, kind, event.round, attempt, client, 1) for client in event.clients}
    begun = Round(
        number=event.round,
        attempt=attempt,
        phase=Phase.TRAINING if kind is TaskKind.TRAIN else Phase.EVALUATING,
        clients=event.clients,
        tasks=Map(
            {
                ids[client]: Task(ids[client], client, kind, 1, goes_on_with=passed_on.get(client))
                for client in event.clients
            }
        ),
        deadline_at=event.deadline_at,
        open=len(event.clients),
    )
    return replace(training, round=begun)


def _passed_on(training: Training, event: e.RoundStarted) -> Mapping[ClientId, Link]:
    """In a daisy chain: with what each client goes on."""
    if not event.continues:
        return _NOTHING
    link_of = {link.task_id: link for link in training.chain}
    return {client: link_of[task] for client, task in zip(event.clients, event.continues, strict=True)}


def _reissued(training: Training, event: e.TaskReissued) -> Training:
    replaced = _current(training).tasks[event.replaces]
    again = Task(event.task_id, event.client_id, event.kind, event.issue, goes_on_with=replaced.goes_on_with)
    return _with(training, again)


def _said(event: r.ModelUploaded | r.MetricsReported) -> dict[str, object]:
    return {"num_examples": event.num_examples, "metrics": tuple(sorted(event.metrics.items()))}


def _inspected(event: r.UpdateAccepted) -> dict[str, object]:
    return {
        "etag": event.etag,
        "digests": event.digests,
        "norm": event.norm,
        "distance": event.distance,
        "tensors": event.tensors,
    }


def _current(training: Training) -> Round:
    assert training.round is not None, "this event happens within a round"
    return training.round


def _round(training: Training, **changes: object) -> Training:
    return replace(training, round=replace(_current(training), **changes))  # type: ignore[arg-type]  # named fields


def _with(training: Training, task: Task) -> Training:
    return replace(training, round=_current(training).with_task(task))


def _change(training: Training, event: TaskMessage, state: TaskState, **facts: object) -> Training:
    task = _current(training).tasks[event.task_id]
    return _with(training, replace(task, state=state, **facts))  # type: ignore[arg-type]  # named fields


def _cancelled(training: Training) -> Training:
    """Without its open tasks: nobody waits for them any more."""
    for task in _current(training).in_state(TaskState.OPEN):
        training = _with(training, replace(task, state=TaskState.CANCELLED))
    return training


def _without(training: Training, client: ClientId) -> Training:
    task = training.task_of(client)
    if task is not None and task.state is TaskState.OPEN:
        training = _with(training, replace(task, state=TaskState.OUT))
    place = bisect_left(training.participants, client)
    return replace(training, participants=training.participants[:place] + training.participants[place + 1 :])


def _closed(training: Training, event: e.RoundClosed) -> Training:
    """Nothing is in yet, whatever came in for an earlier close."""
    count = shard_count(training)
    measured = ("",) * count if training.plan.strategy.chooses else ()
    closed = _round(training, phase=Phase.AGGREGATING, measured=measured, chosen=(), shards=((),) * count)
    return replace(closed, epoch=event.epoch)


def _with_place(digests: tuple[Digest, ...], place: int, digest: Digest) -> tuple[Digest, ...]:
    return (*digests[:place], digest, *digests[place + 1 :])


def _evaluated(training: Training, event: e.EvaluationEnded) -> Training:
    by = training.plan.best
    if by is None:
        return training
    return replace(training, best=after_evaluation(training.best, by, training.model, event.metrics))


def _ended(training: Training, state: TrainingState, reason: str | None) -> Training:
    return replace(training, state=state, reason=reason)
