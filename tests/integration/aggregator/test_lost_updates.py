"""Updates that change or vanish after they were accepted, and before they are used."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from schemas import keys
from schemas.commands import AggregatorCommand, StartTraining
from schemas.envelope import decode
from schemas.events import Event, RoundAbandoned, RoundAggregated, RoundClosed
from schemas.ids import TaskId
from schemas.reports import ModelUploaded, UpdateLost
from schemas.routing import Role
from services.aggregator.handlers import Handlers
from services.aggregator.work import Worker
from tests.integration.scheduler.small import LAYOUT, MODEL, a_training
from tests.recompute import mean_file, sha256_of, trained
from tests.scene import Scene
from tests.sites import attending, honest

pytestmark = pytest.mark.integration

Lose = Callable[["Closed", int], Awaitable[None]]


@dataclass(frozen=True)
class Closed:
    """A round that has just been closed: all updates are accepted, nobody has reduced them yet."""

    scene: Scene
    start: StartTraining

    async def events(self) -> list[Event]:
        return [envelope.data for envelope in await self.scene.events(self.start.training_id)]

    async def key_of(self, client: int) -> str:
        return keys.update(self.start.training_id, 0, await self._task_of(client))

    async def _task_of(self, client: int) -> TaskId:
        wanted = self.scene.place.clients[client]
        uploads = [event for event in await self.events() if isinstance(event, ModelUploaded)]
        return next(upload.task_id for upload in uploads if upload.client_id == wanted)


async def inspect_all(scene: Scene, start: StartTraining) -> Closed:
    """As a worker that stops after the inspections."""
    handlers = Handlers(Worker(scene.objects), await scene.publisher(Role.AGGREGATOR))
    for message in await scene.take("aggregator", len(scene.place.clients)):
        await handlers.handle(decode(message.body, AggregatorCommand))
    await scene.happened(start.training_id, "RoundClosed")
    return Closed(scene, start)


async def delete(closed: Closed, client: int) -> None:
    await asyncio.to_thread(closed.scene.objects.delete, await closed.key_of(client))


async def change(closed: Closed, client: int) -> None:
    """As a client whose ticket still lives."""
    other = trained(LAYOUT, MODEL, [99])
    await asyncio.to_thread(closed.scene.objects.put, await closed.key_of(client), [other], len(other))


@pytest.mark.parametrize("shard_bytes", [8, 2**20], ids=["many shards", "one shard"])
@pytest.mark.parametrize("lose", [delete, change])
async def test_the_round_closes_again_without_an_update_that_is_lost(
    scene: Scene, lose: Lose, shard_bytes: int
) -> None:
    start = await a_training(scene, shard_bytes=shard_bytes, min_clients=2)
    async with attending(scene, LAYOUT, honest):
        async with scene.running(aggregators=0):
            await scene.order(start)
            closed = await inspect_all(scene, start)
            await lose(closed, 2)
        async with scene.running(aggregators=2):
            assert await scene.ended(start.training_id) == "completed"
    said = await closed.events()
    closes = [event for event in said if isinstance(event, RoundClosed)]
    assert [each.epoch for each in closes] == [1, 2], "I9"
    (lost,) = [event for event in said if isinstance(event, UpdateLost)]
    assert set(closes[0].accepted) - set(closes[1].accepted) == {lost.task_id}
    (aggregated,) = [event for event in said if isinstance(event, RoundAggregated)]
    assert (aggregated.epoch, aggregated.model.sha256) == (2, expected(without=2))


def expected(*, without: int) -> str:
    updates = [(10 + client, trained(LAYOUT, MODEL, [client, 0])) for client in range(5) if client != without]
    return sha256_of(mean_file(LAYOUT, updates))


async def test_below_quorum_the_round_is_tried_again(scene: Scene) -> None:
    start = await a_training(scene, min_clients=5, shard_bytes=8)
    async with attending(scene, LAYOUT, honest):
        async with scene.running(aggregators=0):
            await scene.order(start)
            closed = await inspect_all(scene, start)
            await delete(closed, 0)
        async with scene.running():
            assert await scene.ended(start.training_id) == "completed"
    said = await closed.events()
    (abandoned,) = [event for event in said if isinstance(event, RoundAbandoned)]
    assert (abandoned.attempt, abandoned.missing) == (1, scene.place.clients[:1])
    (aggregated,) = [event for event in said if isinstance(event, RoundAggregated)]
    assert (aggregated.epoch, aggregated.model.sha256) == (2, expected(without=-1))


async def test_the_last_update_lost_ends_in_a_new_attempt_and_not_in_an_empty_mean(scene: Scene) -> None:
    start = await a_training(scene, shard_bytes=8)
    async with attending(scene, LAYOUT, honest):
        async with scene.running(aggregators=0):
            await scene.order(start)
            closed = await inspect_all(scene, start)
            for client in range(len(scene.place.clients)):
                await delete(closed, client)
        async with scene.running():
            assert await scene.ended(start.training_id) == "completed"
    said = await closed.events()
    assert sum(isinstance(event, UpdateLost) for event in said) == len(scene.place.clients)
    assert [event.epoch for event in said if isinstance(event, RoundClosed)] == [1, 2, 3, 4, 5, 6]
