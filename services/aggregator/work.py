"""The work of one command: reads from the store, thinks, writes to the store, and says what came of it.

Everything here blocks and runs in worker threads.  Doing a command again writes the same bytes to the same
keys, so repeats and zombies change nothing.
"""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import Protocol

from blake3 import blake3

from infra.objects.errors import ObjectChanged, ObjectMissing
from infra.objects.store import ObjectStore
from infra.streams import Chunk
from infra.weights.layout import shards
from infra.weights.refusals import DigestDiffers, WeightsPadded, WeightsTruncated
from schemas import keys
from schemas.commands import InspectUpdate, PublishModel, ReduceShard
from schemas.reduction import ReducePlan
from schemas.refusal import Refusal
from schemas.reports import ModelPublished, ShardReduced, UpdateAccepted, UpdateLost, UpdateRejected
from schemas.weights import ModelRef, PlannedUpdate
from services.aggregator.ahead import ahead, aside
from services.aggregator.fedavg import fedavg
from services.aggregator.inspection import Inspection, Terms, inspect
from services.aggregator.known import Known, ours

_LOST = (ObjectMissing, ObjectChanged, DigestDiffers, WeightsTruncated, WeightsPadded)


class Digest(Protocol):
    def update(self, data: Chunk, /) -> object: ...


class LostUpdate(Exception):
    """An accepted update cannot be read any more as it was accepted."""

    def __init__(self, update: PlannedUpdate, cause: Refusal) -> None:
        self.update = update
        super().__init__(str(cause))


class Worker:
    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._known = Known(objects)

    def inspect_update(self, command: InspectUpdate) -> UpdateAccepted | UpdateRejected:
        named = command.model_dump(include={"training_id", "task_id", "client_id", "round"})
        try:
            etag, found = self._inspect(command)
        except Refusal as refusal:
            return UpdateRejected(**named, code=refusal.code, reason=str(refusal)[:4_000])
        return UpdateAccepted(
            **named,
            sha256=command.sha256,
            etag=etag,
            norm=found.norm,
            digests=found.digests,
            distance=found.distance,
            tensors=found.tensors,
        )

    def reduce_shard(self, command: ReduceShard) -> ShardReduced | UpdateLost:
        plan = self._known.plan(command.plan, command.plan_sha256)
        try:
            mean, size = self._mean(plan, command.shard)
        except LostUpdate as lost:
            return _told(command, lost)
        digest = blake3()
        key = keys.shard(command.training_id, command.round, command.epoch, command.shard)
        self._objects.put(key, _watched(mean, digest), size)
        return ShardReduced(
            training_id=command.training_id,
            round=command.round,
            epoch=command.epoch,
            shard=command.shard,
            digest=digest.hexdigest(),
        )

    def publish_model(self, command: PublishModel) -> ModelPublished | UpdateLost:
        layout = self._known.layout(command.model)
        try:
            data = self._data(command)
        except LostUpdate as lost:
            return _told(command, lost)
        version = command.model.version + 1
        key = keys.model_version(command.training_id, version, command.epoch)
        sha256 = hashlib.sha256()
        self._objects.put(key, _watched(chain((layout.header,), data), sha256), layout.size)
        published = command.model.model_copy(
            update={"version": version, "key": key, "sha256": sha256.hexdigest()}
        )
        return ModelPublished(
            training_id=command.training_id, round=command.round, epoch=command.epoch, model=published
        )

    def _data(self, command: PublishModel) -> Iterator[Chunk]:
        """All tensors' bytes: the shards that were stored, or the single one, reduced here."""
        if command.shards:
            return self._stored(command)
        plan = self._known.plan(command.plan, command.plan_sha256)
        mean, _ = self._mean(plan, 0)
        return mean

    def _mean(self, plan: ReducePlan, shard: int) -> tuple[Iterator[bytes], int]:
        """The shard's new bytes and their number.  All updates are read before this returns."""
        layout = self._known.layout(plan.current)
        span = shards(layout.data_size, plan.shard_bytes)[shard]
        where = range(layout.header_size + span.start, layout.header_size + span.stop)
        return fedavg(layout, span, self._pieces(plan, shard, where)), len(span)

    def _inspect(self, command: InspectUpdate) -> tuple[str, Inspection]:
        model = self._known.layout(command.model)
        terms = Terms(command.shard_bytes, command.update, command.partial, command.extra, command.measures)
        with (
            self._objects.read(command.key) as content,
            ahead(content, content.size) as chunks,
            aside(hashlib.sha256()) as file,
        ):
            current = partial(self._current, command.model)
            found = inspect(file.watch(chunks), content.size, model, terms, current=current)
            if file.hexdigest() != command.sha256:
                raise DigestDiffers(file.hexdigest(), command.sha256)
        return content.etag, found

    @contextmanager
    def _current(self, model: ModelRef, span: range) -> Iterator[Iterator[Chunk]]:
        """This range of the current model's data; whatever goes wrong with it is a fault."""
        where = range(model.header_size + span.start, model.header_size + span.stop)
        with (
            ours(model.key),
            self._objects.read(model.key, where) as content,
            ahead(content, content.size) as chunks,
        ):
            yield chunks

    def _pieces(self, plan: ReducePlan, shard: int, where: range) -> Iterator[tuple[int, Iterable[Chunk]]]:
        for update in plan.updates:
            yield update.weight, self._piece(update, shard, where)

    def _piece(self, update: PlannedUpdate, shard: int, where: range) -> Iterator[Chunk]:
        """The bytes that were inspected, or `LostUpdate` before the last of them is used."""
        try:
            with self._objects.read(update.key, where, expected_etag=update.etag) as chunks:
                yield from _checked(chunks, update.digests[shard], len(where))
        except _LOST as cause:
            raise LostUpdate(update, cause) from cause

    def _stored(self, command: PublishModel) -> Iterator[Chunk]:
        for shard, expected in enumerate(command.shards):
            key = keys.shard(command.training_id, command.round, command.epoch, shard)
            with ours(key), self._objects.read(key) as chunks:
                yield from _checked(chunks, expected, None)


def _told(command: ReduceShard | PublishModel, lost: LostUpdate) -> UpdateLost:
    return UpdateLost(
        training_id=command.training_id,
        task_id=lost.update.task_id,
        client_id=lost.update.client_id,
        round=command.round,
        epoch=command.epoch,
        reason=str(lost),
    )


def _checked(chunks: Iterable[Chunk], expected: str, size: int | None) -> Iterator[Chunk]:
    digest, seen = blake3(), 0
    for chunk in chunks:
        digest.update(chunk)
        seen += len(chunk)
        yield chunk
    if size is not None and seen < size:
        raise WeightsTruncated(seen, size)
    if digest.hexdigest() != expected:
        raise DigestDiffers(digest.hexdigest(), expected)


def _watched(chunks: Iterable[Chunk], digest: Digest) -> Iterator[Chunk]:
    for chunk in chunks:
        digest.update(chunk)
        yield chunk
