"""Daisy chains, state and the best version over real servers: what clients fetch is what the events name."""

from typing import Any

import pytest
from sqlalchemy import select

from infra.database.tables import rounds
from schemas import events as e
from schemas import keys
from schemas.commands import ClientCommand, EvaluateModel, TrainRound
from schemas.ids import ClientId, TrainingId
from schemas.plan import BestModel, Evaluation, Participation
from schemas.reports import MetricsReported
from schemas.strategies import FedDC
from tests.integration.scheduler.small import LAYOUT, MODEL, a_training
from tests.recompute import sha256_of
from tests.scene import Scene
from tests.sites import Sites, attending, granted, honest

pytestmark = pytest.mark.integration


async def each_checks_what_it_fetches(sites: Sites, command: ClientCommand) -> None:
    if isinstance(command, TrainRound):
        answer = await sites.http.get(granted(command).download_url)
        assert sha256_of(answer.raise_for_status().content) == command.model.sha256
    await honest(sites, command)


async def each_time_it_is_worse(sites: Sites, command: ClientCommand) -> None:
    if not isinstance(command, EvaluateModel):
        return await honest(sites, command)
    named = command.model_dump(include={"training_id", "task_id", "client_id", "round"})
    metrics = {"auc": 1 / command.model.version}
    return await sites.tell(MetricsReported(**named, num_examples=4, metrics=metrics))


async def of_kind(scene: Scene, training: TrainingId, kind: type[Any]) -> list[Any]:
    return [x.data for x in await scene.events(training) if isinstance(x.data, kind)]


async def test_clients_go_on_with_one_anothers_updates_and_each_period_makes_a_version(scene: Scene) -> None:
    start = await scene.training(
        MODEL,
        LAYOUT.header_size,
        strategy=FedDC(period=2),
        rounds=4,
        evaluation=Evaluation(every=0),
        participation=Participation(round_deadline_s=60),
    )
    async with attending(scene, LAYOUT, each_checks_what_it_fetches) as sites, scene.running():
        await scene.order(start)
        assert await scene.ended(start.training_id) == "completed"
        orders: dict[tuple[int, ClientId], TrainRound] = {
            (x.round, x.client_id): x for x in sites.orders(TrainRound, start.training_id)
        }
    found = await scene.rows(select(rounds.c.state).order_by(rounds.c.round))
    assert [row.state for row in found] == ["chained", "aggregated"] * 2
    begun = [x for x in await of_kind(scene, start.training_id, e.RoundStarted) if x.continues]
    assert [x.round for x in begun] == [1, 3]
    for each in begun:
        for client, task in zip(each.clients, each.continues, strict=True):
            key = keys.update(start.training_id, each.round - 1, task)
            assert orders[each.round, client].model.key == key
    versions = await of_kind(scene, start.training_id, e.RoundAggregated)
    assert [x.model.version for x in versions] == [1, 2]


async def test_a_training_ends_early_and_names_the_best_version(scene: Scene) -> None:
    start = await a_training(scene, rounds=9, evaluate_every=1)
    plan = start.plan.model_copy(update={"best": BestModel(metric="auc", patience=2)})
    start = start.model_copy(update={"plan": plan})
    async with attending(scene, LAYOUT, each_time_it_is_worse), scene.running():
        await scene.order(start)
        assert await scene.ended(start.training_id) == "completed"
    (ended,) = await of_kind(scene, start.training_id, e.TrainingCompleted)
    versions = [x.model for x in await of_kind(scene, start.training_id, e.RoundAggregated)]
    assert (ended.model, ended.best, len(versions)) == (versions[-1], versions[0], 3)
