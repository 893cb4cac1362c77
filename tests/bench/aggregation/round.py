"""Drives the aggregation of one round as the scheduler does: from accepted updates to a published model."""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypedDict

from infra.objects.store import ObjectStore
from schemas import keys
from schemas.commands import ChooseUpdates, MeasureShard, PublishModel, ReduceShard
from schemas.ids import TrainingId
from schemas.reduction import ReducePlan
from schemas.reports import AggregatorReport, ModelPublished, ShardMeasured, ShardReduced, UpdatesChosen
from schemas.strategies import Strategy
from schemas.weights import ModelRef, State
from tests.bench.aggregation.orders import Do
from tests.bench.aggregation.team import Team
from tests.bench.aggregation.updates import SHARD_BYTES, Updates


@dataclass(frozen=True)
class Start:
    """What a round goes on with: a model, and the strategy's state as it was committed with it."""

    model: ModelRef
    state: State = ()


@dataclass
class Clock:
    """How long the steps of a round took."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timing(self, step: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[step] = time.perf_counter() - began

    @property
    def total(self) -> float:
        return sum(self.seconds.values())


class Named(TypedDict):
    """What every command about a plan says of it."""

    training_id: TrainingId
    round: int
    epoch: int
    plan: str
    plan_sha256: str


class Round:
    def __init__(self, objects: ObjectStore, team: Team, updates: Updates) -> None:
        self._objects, self._team, self._updates = objects, team, updates
        self._many = len(updates.shards) > 1
        self.clock = Clock()

    def aggregate(self, strategy: Strategy, start: Start) -> ModelPublished:
        plan = self._planned(strategy, start)
        named = self._store(plan, keys.reduce_plan)
        if strategy.chooses:
            plan = self._chosen(plan, named)
            named = self._store(plan, keys.chosen_plan)
        with self.clock.timing("reduce"):
            reduced = self._each_shard(ReduceShard, named) if self._many else ()
        digests = [each.digests for each in reduced if isinstance(each, ShardReduced)]
        with self.clock.timing("publish"):
            order = PublishModel(**named, model=start.model, shards=tuple(digests))
            answer = self._team.do(Do(command=order))
        assert isinstance(answer.report, ModelPublished), answer.report
        return answer.report

    def _planned(self, strategy: Strategy, start: Start) -> ReducePlan:
        return ReducePlan(
            training_id=self._updates.training,
            round=start.model.version,
            epoch=start.model.version + 1,
            strategy=strategy,
            current=start.model,
            state=start.state,
            shard_bytes=SHARD_BYTES,
            updates=self._updates.accepted,
        )

    def _chosen(self, plan: ReducePlan, named: Named) -> ReducePlan:
        with self.clock.timing("measure"):
            measured = self._each_shard(MeasureShard, named) if self._many else ()
        digests = [each.digest for each in measured if isinstance(each, ShardMeasured)]
        with self.clock.timing("choose"):
            report = self._team.do(Do(command=ChooseUpdates(**named, shards=tuple(digests)))).report
        assert isinstance(report, UpdatesChosen), report
        kept = tuple(update for update in plan.updates if update.client_id in report.clients)
        return plan.model_copy(update={"updates": kept, "is_chosen": True})

    def _each_shard(
        self, order: type[MeasureShard | ReduceShard], named: Named
    ) -> list[AggregatorReport | None]:
        shards = range(len(self._updates.shards))
        orders = [Do(command=order(**named, shard=shard)) for shard in shards]
        return [answer.report for answer in self._team.do_all(orders)]

    def _store(self, plan: ReducePlan, key_of: Callable[[TrainingId, int, int], str]) -> Named:
        key = key_of(plan.training_id, plan.round, plan.epoch)
        body = plan.model_dump_json().encode()
        self._objects.put(key, [body], len(body))
        return {
            "training_id": plan.training_id,
            "round": plan.round,
            "epoch": plan.epoch,
            "plan": key,
            "plan_sha256": hashlib.sha256(body).hexdigest(),
        }
