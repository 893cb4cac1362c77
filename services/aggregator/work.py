"""The work of one command: reads from the store, thinks, writes to the store, and says what came of it.

Everything here blocks and runs in worker threads.  Doing a command again writes the same bytes to the same
keys, so repeats and zombies change nothing.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import chain
from typing import Any, TypeVar, assert_never

from blake3 import blake3

from infra.objects.store import ObjectStore, fetch
from infra.plugins import Rules
from infra.streams import Chunk
from infra.weights.layout import Layout, shards
from infra.weights.parts import slot_layout
from infra.weights.refusals import DigestDiffers
from schemas import keys
from schemas.commands import (
    AggregatorCommand,
    ChooseUpdates,
    InspectUpdate,
    MeasureShard,
    PublishModel,
    ReduceShard,
)
from schemas.reduction import ReducePlan
from schemas.refusal import Refusal
from schemas.reports import (
    AggregatorReport,
    ModelPublished,
    RoundRefused,
    ShardMeasured,
    ShardReduced,
    UpdateAccepted,
    UpdateLost,
    UpdateRejected,
    UpdatesChosen,
)
from schemas.weights import ModelRef, StateRef
from schemas.words import Slot
from services.aggregator.inspecting.ahead import ahead, aside
from services.aggregator.inspecting.inspection import Inspection, Terms, inspect
from services.aggregator.known import Known, StaleObject, ours
from services.aggregator.reducing.digests import checked, watched
from services.aggregator.reducing.measuring import measured
from services.aggregator.reducing.reading import LostUpdate
from services.aggregator.reducing.recipe import Recipe, comparison_of, recipe_of, slots_of
from services.aggregator.reducing.reduction import reduced
from services.aggregator.reducing.sources import Limits
from services.aggregator.reducing.spool import Spool, spooled
from services.aggregator.reducing.windows import Work, work_on
from services.aggregator.rules.gram import Gram
from services.aggregator.rules.krum import Chooser, choose, distances

Planned = MeasureShard | ChooseUpdates | ReduceShard | PublishModel
P = TypeVar("P", bound=Planned)
R = TypeVar("R")
Parts = tuple[Iterable[Chunk], ...]  # of the model, then of each slot

_MAX_GRAM = 256 << 20
_REASON = 4_000


class Worker:
    """`rules` are the operator's own, by the names that plans call them."""

    def __init__(
        self, objects: ObjectStore, rules: Rules | None = None, limits: Limits | None = None
    ) -> None:
        self._objects = objects
        self._known = Known(objects)
        self._rules = rules or {}
        self._limits = limits or Limits()

    def obey(self, command: AggregatorCommand) -> AggregatorReport:
        match command:
            case InspectUpdate():
                return self.inspect_update(command)
            case MeasureShard():
                return self.measure_shard(command)
            case ChooseUpdates():
                return self.choose_updates(command)
            case ReduceShard():
                return self.reduce_shard(command)
            case PublishModel():
                return self.publish_model(command)
            case _:
                assert_never(command)

    def inspect_update(self, command: InspectUpdate) -> UpdateAccepted | UpdateRejected:
        named = command.model_dump(include={"training_id", "task_id", "client_id", "round"})
        try:
            etag, found = self._inspect(command)
        except Refusal as refusal:
            return UpdateRejected(**named, code=refusal.code, reason=str(refusal)[:_REASON])
        return UpdateAccepted(
            **named,
            sha256=command.sha256,
            etag=etag,
            norm=found.norm,
            digests=found.digests,
            distance=found.distance,
            tensors=found.tensors,
        )

    def measure_shard(self, command: MeasureShard) -> ShardMeasured | UpdateLost | RoundRefused:
        return _answered(command, self._measure)

    def choose_updates(self, command: ChooseUpdates) -> UpdatesChosen | UpdateLost | RoundRefused:
        return _answered(command, self._choose)

    def reduce_shard(self, command: ReduceShard) -> ShardReduced | UpdateLost | RoundRefused:
        return _answered(command, self._reduce)

    def publish_model(self, command: PublishModel) -> ModelPublished | UpdateLost | RoundRefused:
        return _answered(command, self._publish)

    def _measure(self, command: MeasureShard) -> ShardMeasured:
        plan = self._known.plan(command.plan, command.plan_sha256)
        found = self._measured(plan, command.shard).to_bytes()
        key = keys.measured_shard(command.training_id, command.round, command.epoch, command.shard)
        self._objects.put(key, [found], len(found))
        return ShardMeasured(**_named(command), shard=command.shard, digest=blake3(found).hexdigest())

    def _choose(self, command: ChooseUpdates) -> UpdatesChosen:
        plan = self._known.plan(command.plan, command.plan_sha256)
        strategy = plan.strategy
        if not isinstance(strategy, Chooser):
            raise TypeError(f"{strategy.name} does not choose")
        far = distances(self._stored_grams(command) if command.shards else [self._measured(plan, 0)])
        clients = [update.client_id for update in plan.updates]
        return UpdatesChosen(**_named(command), clients=choose(strategy, clients, far))

    def _reduce(self, command: ReduceShard) -> ShardReduced:
        plan = self._known.plan(command.plan, command.plan_sha256)
        with self._reduced(plan, command.shard) as parts:
            digests = self._stored_parts(command, plan, parts)
        return ShardReduced(**_named(command), shard=command.shard, digests=digests)

    def _publish(self, command: PublishModel) -> ModelPublished:
        plan = self._known.plan(command.plan, command.plan_sha256)
        if command.shards:
            return self._published(command, plan, self._stored(command, plan))
        with self._reduced(plan, 0) as spools:
            return self._published(command, plan, tuple(spool.chunks() for spool in spools))

    def _work(self, plan: ReducePlan, shard: int, recipe: Callable[[ReducePlan], Recipe]) -> Work:
        layout = self._known.layout(plan.current)
        return work_on(recipe(plan), layout, shards(layout.data_size, plan.shard_bytes)[shard])

    def _measured(self, plan: ReducePlan, shard: int) -> Gram:
        work = self._work(plan, shard, comparison_of)
        return measured(self._objects, work, shard, self._limits)

    def _stored_grams(self, command: ChooseUpdates) -> Iterator[Gram]:
        for shard, expected in enumerate(command.shards):
            key = keys.measured_shard(command.training_id, command.round, command.epoch, shard)
            with ours(key):
                found = fetch(self._objects, key, _MAX_GRAM)
                if blake3(found).hexdigest() != expected:
                    raise DigestDiffers(blake3(found).hexdigest(), expected)
                yield Gram.from_bytes(found)

    def _reduced(self, plan: ReducePlan, shard: int) -> AbstractContextManager[tuple[Spool, ...]]:
        """The shard's new bytes.  All updates have been read and checked before they are given."""
        work = self._work(plan, shard, partial(recipe_of, rules=self._rules))
        return spooled(reduced(self._objects, work, shard, self._limits), slots_of(plan))

    def _stored_parts(
        self, command: ReduceShard, plan: ReducePlan, parts: tuple[Spool, ...]
    ) -> tuple[str, ...]:
        """Their digests."""
        found = []
        for name, part in zip(_part_names(plan), parts, strict=True):
            key = keys.shard(command.training_id, command.round, command.epoch, command.shard, name)
            digest = blake3()
            self._objects.put(key, watched(part.chunks(), digest), part.size)
            found.append(digest.hexdigest())
        return tuple(found)

    def _stored(self, command: PublishModel, plan: ReducePlan) -> Parts:
        names = _part_names(plan)
        if {len(digests) for digests in command.shards} != {len(names)}:
            raise StaleObject(f"{command.plan} writes {len(names)} parts of a shard, others were reported")
        return tuple(self._stored_part(command, name, place) for place, name in enumerate(names))

    def _stored_part(self, command: PublishModel, name: str, place: int) -> Iterator[Chunk]:
        for shard, digests in enumerate(command.shards):
            key = keys.shard(command.training_id, command.round, command.epoch, shard, name)
            with ours(key), self._objects.read(key) as chunks:
                yield from checked(chunks, digests[place])

    def _published(self, command: PublishModel, plan: ReducePlan, parts: Parts) -> ModelPublished:
        """The model's file is written last: where it is, the state is too."""
        model, *slots = parts
        layout = self._known.layout(command.model)
        version = command.model.version + 1
        state = []
        for slot, part in zip(slots_of(plan), slots, strict=True):
            key = keys.state(command.training_id, version, command.epoch, slot)
            state.append(self._file(slot, key, slot_layout(layout, slot), part))
        key = keys.model_version(command.training_id, version, command.epoch)
        sha256 = self._put(key, layout, model)
        published = command.model.model_copy(update={"version": version, "key": key, "sha256": sha256})
        return ModelPublished(**_named(command), model=published, state=tuple(state))

    def _file(self, slot: Slot, key: str, layout: Layout, data: Iterable[Chunk]) -> StateRef:
        return StateRef(slot=slot, key=key, sha256=self._put(key, layout, data), size=layout.size)

    def _put(self, key: str, layout: Layout, data: Iterable[Chunk]) -> str:
        sha256 = hashlib.sha256()
        self._objects.put(key, watched(chain((layout.header,), data), sha256), layout.size)
        return sha256.hexdigest()

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


def _part_names(plan: ReducePlan) -> tuple[str, ...]:
    return ("model", *slots_of(plan))


def _named(command: Planned) -> dict[str, Any]:  # fields that every report on a plan has
    return command.model_dump(include={"training_id", "round", "epoch"})


def _answered(command: P, work: Callable[[P], R]) -> R | UpdateLost | RoundRefused:
    """What nobody can do with these updates is refused; a fault flies, and the command comes again."""
    try:
        return work(command)
    except LostUpdate as lost:
        task, client = lost.update.task_id, lost.update.client_id
        return UpdateLost(**_named(command), task_id=task, client_id=client, reason=str(lost)[:_REASON])
    except Refusal as refusal:
        return RoundRefused(**_named(command), code=refusal.code, reason=str(refusal)[:_REASON])
