"""A training as somebody who watches it sees it: the fold of its events."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from schemas import events as e
from schemas.envelope import Envelope
from schemas.ids import ClientId
from schemas.reports import ModelUploaded
from schemas.words import TrainingState


@dataclass(frozen=True, slots=True)
class Upload:
    num_examples: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Round:
    number: int
    attempt: int
    expected: int
    started_at: datetime
    uploads: Mapping[ClientId, Upload] = field(default_factory=dict)
    accepted: int = 0
    sha256: str | None = None  # of the model it made
    metrics: Mapping[str, float] = field(default_factory=dict)  # of its evaluation
    ended_at: datetime | None = None

    @property
    def seconds(self) -> float:
        return (self.ended_at - self.started_at).total_seconds() if self.ended_at else 0.0

    def mean_of(self, metric: str) -> float | None:
        """Of what the clients reported with their updates, each counted by its examples."""
        told = [(u.num_examples, u.metrics[metric]) for u in self.uploads.values() if metric in u.metrics]
        examples = sum(count for count, _ in told)
        return sum(count * value for count, value in told) / examples if examples else None


@dataclass(frozen=True, slots=True)
class Progress:
    planned: int = 0
    rounds: tuple[Round, ...] = ()
    seq: int = 0
    state: TrainingState = TrainingState.CREATED
    reason: str | None = None
    sha256: str | None = None  # of the final model

    @property
    def is_over(self) -> bool:
        return self.state not in {TrainingState.CREATED, TrainingState.RUNNING}

    @property
    def current(self) -> Round | None:
        return self.rounds[-1] if self.rounds else None


def advance(progress: Progress, envelope: Envelope[Any]) -> Progress:
    assert envelope.sequence is not None, "events are numbered"
    return replace(_advanced(progress, envelope.data, envelope.time), seq=envelope.sequence)


def _advanced(progress: Progress, event: e.Event, at: datetime) -> Progress:
    match event:
        case e.TrainingStarted():
            return replace(progress, state=TrainingState.RUNNING, planned=event.plan.rounds)
        case e.RoundStarted():
            begun = Round(event.round, event.attempt, len(event.clients), at)
            return replace(progress, rounds=(*progress.rounds[: event.round], begun))
        case e.TrainingCompleted():
            return replace(progress, state=TrainingState.COMPLETED, sha256=event.model.sha256)
        case e.TrainingFailed():
            return replace(progress, state=TrainingState.FAILED, reason=event.reason)
        case e.TrainingAborted():
            return replace(progress, state=TrainingState.ABORTED, reason=event.reason)
        case _:
            return _with_round(progress, event, at)


def _with_round(progress: Progress, event: e.Event, at: datetime) -> Progress:
    if not progress.rounds:
        return progress
    *before, current = progress.rounds
    return replace(progress, rounds=(*before, _changed(current, event, at)))


def _changed(current: Round, event: e.Event, at: datetime) -> Round:
    match event:
        case ModelUploaded():
            upload = Upload(event.num_examples, event.metrics)
            return replace(current, uploads={**current.uploads, event.client_id: upload})
        case e.RoundClosed():
            return replace(current, accepted=len(event.accepted))
        case e.RoundChained():
            return replace(current, accepted=len(event.accepted), ended_at=at)
        case e.RoundAggregated():
            return replace(current, sha256=event.model.sha256, ended_at=at)
        case e.EvaluationEnded():
            return replace(current, metrics=event.metrics, ended_at=at)
        case _:
            return current
