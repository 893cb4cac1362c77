"""A whole round in one process: the commands the scheduler would order, one after the other."""

import hashlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from infra.objects.store import ObjectStore
from infra.weights.layout import shards
from schemas import keys
from schemas.commands import ChooseUpdates, MeasureShard, PublishModel, ReduceShard
from schemas.ids import ClientId
from schemas.message import TrainingMessage
from schemas.reduction import ReducePlan
from schemas.refusal import Refusal
from schemas.reports import RoundRefused, UpdateLost
from schemas.weights import ModelRef, ObjectKey, State
from services.aggregator.work import Worker

C = TypeVar("C", bound=TrainingMessage)
R = TypeVar("R", bound=TrainingMessage)

PARALLEL = 2  # commands in hand at once


class UpdateGone(Refusal):
    code: ClassVar[str] = "update_gone"

    def __init__(self, lost: UpdateLost) -> None:
        self.client_id = lost.client_id
        super().__init__(
            f"the update of client {lost.client_id} cannot be read as it was accepted: {lost.reason}"
        )


class RoundImpossible(Refusal):
    code: ClassVar[str] = "round_impossible"

    def __init__(self, refused: RoundRefused) -> None:
        super().__init__(refused.reason)


@dataclass(frozen=True, slots=True)
class Combined:
    """`clients` are those whose updates went into the model."""

    model: ModelRef
    state: State
    clients: tuple[ClientId, ...]


def combine(worker: Worker, objects: ObjectStore, plan: ReducePlan) -> Combined:
    """Leaves the next version, its state, and all there is on the way to them, in the store."""
    if plan.strategy.chooses and not plan.is_chosen:
        kept = _chosen(worker, _Steps(objects, plan))
        updates = tuple(update for update in plan.updates if update.client_id in kept)
        plan = plan.model_copy(update={"updates": updates, "is_chosen": True})
    steps = _Steps(objects, plan)
    reduced = steps.of_each_shard(ReduceShard, worker.reduce_shard)
    command = steps.command(PublishModel, model=plan.current, shards=tuple(each.digests for each in reduced))
    published = _done(worker.publish_model(command))
    return Combined(published.model, published.state, tuple(each.client_id for each in plan.updates))


def key_of(plan: ReducePlan) -> ObjectKey:
    """Where the plan lies."""
    place = keys.chosen_plan if plan.is_chosen else keys.reduce_plan
    return place(plan.training_id, plan.round, plan.epoch)


def _chosen(worker: Worker, steps: "_Steps") -> frozenset[ClientId]:
    measured = steps.of_each_shard(MeasureShard, worker.measure_shard)
    command = steps.command(ChooseUpdates, shards=tuple(each.digest for each in measured))
    return frozenset(_done(worker.choose_updates(command)).clients)


class _Steps:
    """Commands about one plan, which lies in the store."""

    def __init__(self, objects: ObjectStore, plan: ReducePlan) -> None:
        body = plan.model_dump_json().encode()
        key = key_of(plan)
        objects.put(key, (body,), len(body))
        self._plan = plan
        self._named: dict[str, Any] = {  # the fields that all of these commands have
            "training_id": plan.training_id,
            "round": plan.round,
            "epoch": plan.epoch,
            "plan": key,
            "plan_sha256": hashlib.sha256(body).hexdigest(),
        }

    def command(self, kind: type[C], **more: Any) -> C:  # more fields of the command's own
        return kind(**self._named, **more)

    def of_each_shard(
        self, kind: type[C], work: Callable[[C], R | UpdateLost | RoundRefused]
    ) -> tuple[R, ...]:
        """The reports of each shard; none of a single one, which is done on the way."""
        data_size = self._plan.current.size - self._plan.current.header_size
        count = len(shards(data_size, self._plan.shard_bytes))
        if count == 1:
            return ()
        with ThreadPoolExecutor(PARALLEL) as pool:
            commands: Iterable[C] = (self.command(kind, shard=shard) for shard in range(count))
            return tuple(_done(report) for report in pool.map(work, commands))


def _done(report: R | UpdateLost | RoundRefused) -> R:
    match report:
        case UpdateLost():
            raise UpdateGone(report)
        case RoundRefused():
            raise RoundImpossible(report)
    return report
