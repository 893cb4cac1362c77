"""What the broker has lost is made again, and what lay in it is said again."""

from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from infra.broker.topology import Queue, scheduler_queues
from schemas.commands import TrainRound
from schemas.ids import TrainingId
from tests.integration.scheduler.small import LAYOUT, a_training
from tests.integration.scheduler.test_relay import make_due
from tests.scene import Scene, until
from tests.sites import attending, honest, silent

pytestmark = pytest.mark.integration


def mending(scene: Scene) -> dict[str, Any]:
    rabbit = scene.place.endpoints.rabbit
    return {
        "management_url": rabbit.management_url,
        "management_user": rabbit.user,
        "management_password": SecretStr(rabbit.password),
        "mend_every_s": 0.2,
    }


async def is_there(scene: Scene, queue: str) -> bool:
    return queue in await scene.admin.depths()


async def test_a_clients_queue_that_was_lost_is_made_again_and_its_order_comes_again(scene: Scene) -> None:
    start = await a_training(scene)
    _, queue = scene.place.sites[0]
    async with scene.running(**mending(scene)):
        await scene.order(start)
        await until(lambda: _holds_something(scene, queue))
        await scene.channel.queue_delete(queue)
        await until(lambda: is_there(scene, queue))
        await make_due(scene)
        async with attending(scene, LAYOUT, honest):
            assert await scene.ended(start.training_id) == "completed"


async def _holds_something(scene: Scene, queue: str) -> bool:
    return await scene.depth(queue) > 0


async def test_the_schedulers_own_queues_are_made_again_while_it_runs(scene: Scene) -> None:
    start = await a_training(scene)
    async with attending(scene, LAYOUT, silent) as sites, scene.running(**mending(scene)):
        await scene.order(start)
        await sites.told(TrainRound, start.training_id, len(scene.place.clients))
        for queue in scheduler_queues():
            await scene.channel.queue_delete(queue)
        await until(lambda: is_there(scene, scheduler_queues()[-1]))
        other = await a_training(scene)
        await scene.order(other)
        await until(lambda: _is_told(scene, other.training_id), 30)


async def _is_told(scene: Scene, training: TrainingId) -> bool:
    await make_due(scene)
    return "RoundStarted" in await scene.types(training)


async def test_the_aggregators_queue_is_made_again_and_taken_up_again(scene: Scene) -> None:
    start = await a_training(scene)
    async with attending(scene, LAYOUT, honest), scene.running(**mending(scene)):
        await until(lambda: _is_consumed(scene, Queue.AGGREGATOR))
        await scene.channel.queue_delete(Queue.AGGREGATOR)
        await until(lambda: is_there(scene, Queue.AGGREGATOR))
        await scene.order(start)
        await until(lambda: _is_over(scene, start.training_id), 30)


async def _is_consumed(scene: Scene, queue: str) -> bool:
    return bool((await scene.channel.queue_declare(queue, passive=True)).consumer_count)


async def _is_over(scene: Scene, training: TrainingId) -> bool:
    await make_due(scene)
    return await scene.state(training) == "completed"


@pytest.mark.parametrize("login", ["scheduler", "aggregator"])
async def test_connections_that_are_cut_are_made_again(scene: Scene, login: str) -> None:
    start = await a_training(scene, rounds=4)
    async with attending(scene, LAYOUT, honest), scene.running():
        await scene.order(start)
        await scene.happened(start.training_id, "UpdateAccepted")
        await until(lambda: _can_be_seen(scene, login))
        await scene.admin.drop_connections(login)
        assert await scene.ended(start.training_id) == "completed"
        await scene.order(other := await a_training(scene))
        assert await scene.ended(other.training_id) == "completed"


async def _can_be_seen(scene: Scene, login: str) -> bool:
    """Connections appear in the administration after a while."""
    found = await scene.admin._call("GET", f"connections/username/{login}")
    return len(found) >= 2


async def test_database_connections_that_are_cut_again_and_again_cost_time_only(scene: Scene) -> None:
    start = await a_training(scene, rounds=6, evaluate_every=1)
    async with attending(scene, LAYOUT, honest), scene.running():
        await scene.order(start)
        for number in range(1, 6):
            await scene.happened(start.training_id, "RoundStarted", number)
            await cut_database_connections(scene)
        assert await scene.ended(start.training_id) == "completed"
        await scene.published(start.training_id)
    envelopes = await scene.events(start.training_id)
    assert [envelope.sequence for envelope in envelopes] == list(range(1, len(envelopes) + 1))
    assert [envelope.type for envelope in envelopes].count("RoundAggregated") == 6
    assert await scene.depth("dead-letters") == 0


async def cut_database_connections(scene: Scene) -> None:
    """All of this database's but our own."""
    others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
    await scene.rows(text(f"{others} AND pid <> pg_backend_pid()"))
