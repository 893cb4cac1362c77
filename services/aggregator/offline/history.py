"""What the versions of a training's model were made of, by its events alone."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from schemas import events as e
from schemas import keys
from schemas import reports as r
from schemas.commands import InspectUpdate
from schemas.events import Event
from schemas.ids import ClientId, TaskId
from schemas.plan import Plan
from schemas.reduction import ReducePlan
from schemas.strategies import QFedAvg
from schemas.weights import MAX_SHARDS, ModelRef, PlannedUpdate, State
from schemas.words import Extra

_ALIGNMENT = 8  # of shards: no element is larger


@dataclass(frozen=True, slots=True)
class Accepted:
    uploaded: r.ModelUploaded
    report: r.UpdateAccepted


@dataclass(frozen=True, slots=True)
class Version:
    """`before` and `state` are what the round began with; `chosen` is None where the strategy takes all."""

    plan: Plan
    before: ModelRef
    state: State
    accepted: tuple[Accepted, ...]
    chosen: tuple[ClientId, ...] | None
    made: e.RoundAggregated


def versions(events: Iterable[Event]) -> Iterator[Version]:
    """Those that rounds have made, in order."""
    uploads: dict[TaskId, r.ModelUploaded] = {}
    reports: dict[TaskId, r.UpdateAccepted] = {}
    closed: tuple[TaskId, ...] = ()
    chosen: tuple[ClientId, ...] | None = None
    for event in events:
        match event:
            case e.TrainingStarted():
                plan, model, state = event.plan, event.model, State()
            case r.ModelUploaded():
                uploads[event.task_id] = event
            case r.UpdateAccepted():
                reports[event.task_id] = event
            case e.RoundClosed():
                closed, chosen = event.accepted, None
            case r.UpdatesChosen():
                chosen = event.clients
            case e.RoundAggregated():
                found = tuple(Accepted(uploads[task], reports[task]) for task in closed)
                yield Version(plan, model, state, found, chosen, event)
                model, state = event.model, event.state


def reduce_plan(version: Version) -> ReducePlan:
    """The plan that the scheduler must have stored when the round closed."""
    plan = version.plan
    accepted = sorted(version.accepted, key=lambda each: each.report.client_id)
    return ReducePlan(
        training_id=version.made.training_id,
        round=version.made.round,
        epoch=version.made.epoch,
        strategy=plan.strategy,
        update=plan.update,
        norm_clip=plan.norm_clip,
        buffers=plan.buffers,
        extra=_extra(version),
        current=version.before,
        state=version.state,
        shard_bytes=_shard_bytes(version),
        updates=tuple(_planned(version, each) for each in accepted),
    )


def inspection(version: Version, accepted: Accepted) -> InspectUpdate:
    """What a worker was asked before it accepted this update."""
    report, plan = accepted.report, version.plan
    return InspectUpdate(
        training_id=report.training_id,
        task_id=report.task_id,
        client_id=report.client_id,
        round=report.round,
        key=keys.update(report.training_id, report.round, report.task_id),
        sha256=accepted.uploaded.sha256,
        model=version.before,
        update=plan.update,
        partial=plan.partial,
        extra=_extra(version),
        measures=plan.measures,
        shard_bytes=_shard_bytes(version),
    )


def _planned(version: Version, accepted: Accepted) -> PlannedUpdate:
    report, strategy = accepted.report, version.plan.strategy
    metrics = accepted.uploaded.metrics
    return PlannedUpdate(
        client_id=report.client_id,
        task_id=report.task_id,
        key=keys.update(report.training_id, report.round, report.task_id),
        etag=report.etag,
        sha256=report.sha256,
        num_examples=accepted.uploaded.num_examples,
        digests=report.digests,
        norm=report.norm,
        distance=report.distance,
        loss=metrics.get(strategy.loss_metric) if isinstance(strategy, QFedAvg) else None,
        tensors=report.tensors,
    )


def _extra(version: Version) -> Extra | None:
    return version.plan.strategy.extra_of(version.made.round, version.plan.rounds)


def _shard_bytes(version: Version) -> int:
    """As planned, or as many more as keep the shards countable."""
    data_size = version.before.size - version.before.header_size
    return max(version.plan.shard_bytes, -(-data_size // (MAX_SHARDS * _ALIGNMENT)) * _ALIGNMENT)
