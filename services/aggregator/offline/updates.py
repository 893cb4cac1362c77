"""The updates of a round over files: read, inspected by a worker, and planned."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from infra.weights.layout import Layout
from schemas.commands import InspectUpdate
from schemas.identity import derived
from schemas.ids import ClientId, TaskId, TrainingId
from schemas.message import Metrics
from schemas.offline import OfflineRound, OfflineUpdate
from schemas.refusal import Refusal
from schemas.reports import UpdateAccepted, UpdateRejected
from schemas.strategies import QFedAvg, Strategy
from schemas.weights import ModelRef, PlannedUpdate
from schemas.words import Extra
from services.aggregator.inspecting.admission import Admission
from services.aggregator.offline.inputs import FileRefused, Input, read_input
from services.aggregator.offline.whole_round import PARALLEL
from services.aggregator.work import Worker

TRAINING = TrainingId(derived("offline", "training"))


@dataclass(frozen=True, slots=True)
class ReadUpdate:
    told: OfflineUpdate
    client_id: ClientId
    key: str
    input: Input


@dataclass(frozen=True, slots=True)
class Terms:
    """What the updates are to be like."""

    model: ModelRef
    layout: Layout  # of the model
    strategy: Strategy
    extra: Extra | None
    shard_bytes: int


def read_updates(told: Sequence[OfflineUpdate], scratch: Path) -> tuple[ReadUpdate, ...]:
    def read(place: int, each: OfflineUpdate) -> ReadUpdate:
        key = f"update-{place}"
        return ReadUpdate(
            each, client_id(each.client, place), key, read_input(Path(each.file), scratch / key)
        )

    with ThreadPoolExecutor(PARALLEL) as pool:
        return tuple(pool.map(read, range(1, len(told) + 1), told))


def client_id(client: str | None, place: int = 0) -> ClientId:
    """The id that is said, or the one that follows from the name, or from the place in the order."""
    if client is None:
        return ClientId(UUID(int=place))
    try:
        return ClientId(UUID(client))
    except ValueError:
        return ClientId(derived("offline", "client", client))


def planned(
    worker: Worker, asked: OfflineRound, terms: Terms, updates: Sequence[ReadUpdate]
) -> tuple[PlannedUpdate, ...]:
    """As they are inspected, sorted by client, or a refusal that names the file."""
    for update in updates:
        _require_tensors(asked, terms, update)
    with ThreadPoolExecutor(PARALLEL) as pool:
        commands = [_command(asked, terms, update) for update in updates]
        reports = list(pool.map(worker.inspect_update, commands))
    found = [_planned(terms.strategy, *each) for each in zip(updates, reports, strict=True)]
    return tuple(sorted(found, key=lambda update: update.client_id))


def means_of_metrics(updates: Iterable[OfflineUpdate]) -> Metrics:
    """Each counted by the examples of those who told it."""
    told: Mapping[str, list[tuple[int, float]]] = defaultdict(list)
    for update in updates:
        for name, value in update.metrics.items():
            told[name].append((update.num_examples, value))
    return {
        name: math.fsum(count * value for count, value in pairs) / sum(count for count, _ in pairs)
        for name, pairs in sorted(told.items())
    }


def _require_tensors(asked: OfflineRound, terms: Terms, update: ReadUpdate) -> None:
    """A worker asks for the size first; of files, one would rather know which tensor is wrong."""
    admission = Admission(terms.layout, terms.extra)
    admit = admission.some if asked.partial else admission.all
    try:
        admit(update.input.layout.header)
    except Refusal as refusal:
        raise FileRefused(Path(update.told.file), refusal) from refusal


def _command(asked: OfflineRound, terms: Terms, update: ReadUpdate) -> InspectUpdate:
    return InspectUpdate(
        training_id=TRAINING,
        task_id=_task(update.client_id),
        client_id=update.client_id,
        round=terms.model.version,
        key=update.key,
        sha256=update.input.sha256,
        model=terms.model,
        update=asked.update,
        partial=asked.partial,
        extra=terms.extra,
        measures=_measures(asked, terms.strategy),
        shard_bytes=terms.shard_bytes,
    )


def _measures(asked: OfflineRound, strategy: Strategy) -> bool:
    """As a plan says it."""
    return asked.norm_clip is not None or strategy.measures or (asked.partial and strategy.chooses)


def _planned(
    strategy: Strategy, update: ReadUpdate, report: UpdateAccepted | UpdateRejected
) -> PlannedUpdate:
    if isinstance(report, UpdateRejected):
        raise FileRefused(Path(update.told.file), report.reason)
    return PlannedUpdate(
        client_id=report.client_id,
        task_id=report.task_id,
        key=update.key,
        etag=report.etag,
        sha256=report.sha256,
        num_examples=update.told.num_examples,
        digests=report.digests,
        norm=report.norm,
        distance=report.distance,
        loss=update.told.metrics.get(strategy.loss_metric) if isinstance(strategy, QFedAvg) else None,
        tensors=report.tensors,
    )


def _task(client: ClientId) -> TaskId:
    return TaskId(derived("offline", "task", client))
