"""The read side: what REST answers from, derived from events."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import Executable, insert, update
from sqlalchemy.dialects.postgresql import insert as upsert

from infra.database.tables import metrics, model_versions, models, participants, rounds
from schemas import events as e
from schemas import reports as r
from schemas.words import Phase
from services.scheduler.saga import Recorded
from services.scheduler.state import Training

Statement = tuple[Executable, list[dict[str, Any]]]

ABANDONED = "abandoned"
AGGREGATED = "aggregated"
CHAINED = "chained"


def projected(training: Training, events: Iterable[Recorded], now: datetime) -> Iterator[Statement]:
    """The statements that bring the read side to the state after `events`."""
    measured: list[dict[str, Any]] = []
    for recorded in events:
        match recorded.event:
            case r.ModelUploaded() as event:
                measured += _measured(training, event, "train", now)
            case r.MetricsReported() as event:
                measured += _measured(training, event, "test", now)
            case event:
                yield from _of_event(training, event, now)
    if measured:
        yield insert(metrics), measured


def summary(training: Training | None) -> dict[str, Any]:
    """The training's own row; before its first event (`seq` 0) there is nothing to say."""
    current = training.round if training else None
    best = training.best.model if training else None
    is_over = training is None or training.is_over
    return {
        "seq": training.seq if training else 0,
        "state": training.state.value if training else None,
        "reason": training.reason if training else None,
        "round": current.number if current else None,
        "attempt": current.attempt if current else None,
        "phase": current.phase.value if current and not is_over else None,
        "arrived": current.arrived if current else 0,
        "expected": len(current.clients) if current else 0,
        "best_version": best.version if best else None,
    }


def _of_event(  # noqa: C901 -- one case an event
    training: Training, event: e.Event, now: datetime
) -> Iterator[Statement]:
    match event:
        case e.RoundStarted():
            yield _round_started(event, now)
        case e.RoundClosed():
            yield _closed(event)
        case e.RoundAbandoned():
            yield _round(event.training_id, event.round, state=ABANDONED, ended_at=now)
        case e.RoundChained():
            taken = {"arrived": len(event.accepted), "accepted": len(event.accepted)}
            yield _trained(event, state=CHAINED, ended_at=now, **taken)
        case e.RoundAggregated():
            yield _trained(event, state=AGGREGATED, sha256=event.model.sha256, ended_at=now)
            yield from _new_version(event)
        case e.EvaluationEnded():
            yield _round(event.training_id, event.round, metrics=dict(event.metrics))
        case e.TrainingAborted():
            is_open = (rounds.c.training_id == event.training_id, rounds.c.ended_at.is_(None))
            yield update(rounds).where(*is_open).values(state=ABANDONED, ended_at=now), []
        case e.ParticipantsAdded():
            rows = [{"training_id": event.training_id, "client_id": client} for client in event.clients]
            fresh = {"removed_at": None, "removed_reason": None}
            yield (
                upsert(participants).on_conflict_do_update(constraint=participants.primary_key, set_=fresh),
                rows,
            )
        case e.ParticipantRemoved():
            removed = update(participants).where(
                participants.c.training_id == event.training_id, participants.c.client_id == event.client_id
            )
            yield removed.values(removed_at=now, removed_reason=event.reason), []
        case _:
            return


def _round_started(event: e.RoundStarted, now: datetime) -> Statement:
    fresh = {
        "attempt": event.attempt,
        "state": Phase.TRAINING.value,
        "expected": len(event.clients),
        "arrived": 0,
        "accepted": 0,
        "started_at": now,
        "ended_at": None,
    }
    row = {"training_id": event.training_id, "round": event.round, **fresh}
    return upsert(rounds).values(row).on_conflict_do_update(constraint=rounds.primary_key, set_=fresh), []


def _round(training: object, number: int, **changes: object) -> Statement:
    chosen = (rounds.c.training_id == training, rounds.c.round == number)
    return update(rounds).where(*chosen).values(**changes), []


def _trained(event: e.RoundAggregated | e.RoundChained, **changes: object) -> Statement:
    return _round(event.training_id, event.round, train_metrics=dict(event.metrics), **changes)


def _new_version(event: e.RoundAggregated) -> Iterator[Statement]:
    model, state = event.model, [part.model_dump(mode="json") for part in event.state]
    row = {**model.model_dump(), "training_id": event.training_id, "state": state}
    yield upsert(model_versions).values(row).on_conflict_do_nothing(), []
    yield update(models).where(models.c.id == model.model_id).values(version=model.version), []


def _measured(
    training: Training, event: r.ModelUploaded | r.MetricsReported, identifier: str, now: datetime
) -> list[dict[str, Any]]:
    """`step` is the version that was measured; for a round's own metrics, the one they lead to."""
    step = training.plan.strategy.versions_before(event.round) + 1
    return [
        {
            "model_id": training.model.model_id,
            "identifier": identifier,
            "key": name,
            "value_float": value,
            "step": step,
            "reporter_id": event.client_id,
            "at": now,
        }
        for name, value in event.metrics.items()
    ]


def _closed(event: e.RoundClosed) -> Statement:
    count = len(event.accepted)
    return _round(
        event.training_id, event.round, arrived=count, accepted=count, state=Phase.AGGREGATING.value
    )
