"""A model and its clients' updates in a store, accepted by a real worker."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import sqrt
from uuid import UUID

import numpy as np

from infra.objects.store import ObjectStore
from infra.weights.layout import Dtype, Layout, Tensor, canonical, shards
from schemas import keys
from schemas.commands import InspectUpdate
from schemas.identity import derived
from schemas.ids import ClientId, ModelId, TaskId, TrainingId
from schemas.plan import Plan
from schemas.reports import UpdateAccepted
from schemas.weights import ModelRef, PlannedUpdate
from tests.bench.aggregation.orders import Do, Read
from tests.bench.aggregation.team import Team

SHARD_BYTES: int = Plan.model_fields["shard_bytes"].default

_TENSORS = 20
_STEP = 4_099  # clients differ in every element, though all take theirs from one row of random numbers
_CHUNK = 16 << 20


@dataclass(frozen=True)
class Size:
    """So many updates of so many megabytes, float32."""

    clients: int
    mb: int

    @property
    def total_mb(self) -> int:
        return self.clients * self.mb

    @cached_property
    def layout(self) -> Layout:
        """Tensors of unequal sizes, a bias to each matrix."""
        total, found = self.mb * 250_000, []
        for number in range(_TENSORS):
            share = total * (number + 1) // 210
            bias = int(sqrt(share))
            found += [
                Tensor(f"layer{number}.weight", Dtype.F32, (share - bias,)),
                Tensor(f"layer{number}.bias", Dtype.F32, (bias,)),
            ]
        return canonical(found)

    def __str__(self) -> str:
        return f"clients={self.clients} mb={self.mb}"


@dataclass(frozen=True)
class Updates:
    """Of one round, as the scheduler knows them."""

    size: Size
    training: TrainingId
    model: ModelRef
    accepted: tuple[PlannedUpdate, ...]

    @property
    def shards(self) -> tuple[range, ...]:
        return shards(self.size.layout.data_size, SHARD_BYTES)

    def reads(self) -> Iterator[Read]:
        """All that an aggregation must read of the updates, shard by shard."""
        begin = self.model.header_size
        for span in self.shards:
            for update in self.accepted:
                yield Read(key=update.key, etag=update.etag, start=begin + span.start, stop=begin + span.stop)

    def inspections(self) -> Iterator[Do]:
        for update in self.accepted:
            yield Do(command=inspection(self.training, update.client_id, self.model, update.sha256))


class Rows:
    """The random numbers of a size: slot 0 is the model, slot k client k's update."""

    def __init__(self, size: Size) -> None:
        self._layout = size.layout
        self._elements = self._layout.data_size // 4
        random = np.random.default_rng(size.mb)
        self._row = random.standard_normal(self._elements + size.clients * _STEP, dtype=np.float32)

    def content(self, slot: int) -> Iterator[memoryview]:
        yield memoryview(self._layout.header)
        values = self._row[slot * _STEP : slot * _STEP + self._elements].data.cast("B")
        for at in range(0, len(values), _CHUNK):
            yield values[at : at + _CHUNK]


def put_all(objects: ObjectStore, size: Size) -> tuple[ModelRef, Mapping[ClientId, str]]:
    """Stores model and updates; the reference to the one and the sha256 of the others."""
    rows, training = Rows(size), training_of(size)
    model = ModelId(derived("model", training))
    sha256 = _put(objects, keys.uploaded_model(model), size.layout, rows.content(0))
    clients = [ClientId(UUID(int=number)) for number in range(1, size.clients + 1)]
    sent = {
        client: _put(objects, key_of(training, client), size.layout, rows.content(number))
        for number, client in enumerate(clients, 1)
    }
    reference = ModelRef(
        model_id=model,
        version=0,
        key=keys.uploaded_model(model),
        sha256=sha256,
        size=size.layout.size,
        header_size=size.layout.header_size,
    )
    return reference, sent


def take_in(team: Team, size: Size, model: ModelRef, sent: Mapping[ClientId, str]) -> Updates:
    training = training_of(size)
    orders = [Do(command=inspection(training, client, model, sha256)) for client, sha256 in sent.items()]
    accepted = []
    for answer in team.do_all(orders):
        assert isinstance(answer.report, UpdateAccepted), answer.report
        accepted.append(_planned(training, answer.report))
    return Updates(size, training, model, tuple(accepted))


def inspection(training: TrainingId, client: ClientId, model: ModelRef, sha256: str) -> InspectUpdate:
    return InspectUpdate(
        training_id=training,
        task_id=_task(training, client),
        client_id=client,
        round=0,
        key=key_of(training, client),
        sha256=sha256,
        model=model,
        shard_bytes=SHARD_BYTES,
    )


def training_of(size: Size) -> TrainingId:
    return TrainingId(derived("bench", size.clients, size.mb))


def key_of(training: TrainingId, client: ClientId) -> str:
    return keys.update(training, 0, _task(training, client))


def _planned(training: TrainingId, report: UpdateAccepted) -> PlannedUpdate:
    return PlannedUpdate(
        client_id=report.client_id,
        task_id=report.task_id,
        key=key_of(training, report.client_id),
        etag=report.etag,
        sha256=report.sha256,
        num_examples=100 + report.client_id.int,
        digests=report.digests,
        norm=report.norm,
        distance=report.distance,
        tensors=report.tensors,
    )


def _task(training: TrainingId, client: ClientId) -> TaskId:
    return TaskId(derived("task", training, client))


def _put(objects: ObjectStore, key: str, layout: Layout, chunks: Iterator[memoryview]) -> str:
    digest = hashlib.sha256()

    def watched() -> Iterator[memoryview]:
        for chunk in chunks:
            digest.update(chunk)
            yield chunk

    objects.put(key, watched(), layout.size)
    return digest.hexdigest()
