"""What lies in the outbox is published: at once, after a restart, and again until it is answered."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr
from sqlalchemy import func, insert, select, text, update

from infra.broker.connection import Connection
from infra.broker.publisher import Publisher
from infra.broker.settings import BrokerSettings
from infra.database.tables import outbox
from infra.objects.store import fetch
from infra.objects.tickets import TicketOffice
from schemas.commands import (
    AbortTraining,
    AggregatorCommand,
    InspectUpdate,
    ReduceShard,
    TrainingEnded,
    TrainRound,
)
from schemas.envelope import Envelope, decode, enclose, encode
from schemas.identity import order_id
from schemas.ids import ClientId, TrainingId
from schemas.reduction import ReducePlan
from schemas.routing import Role
from schemas.words import Outcome
from services.aggregator.handlers import Handlers
from services.aggregator.work import Worker
from services.scheduler.relay import Relay
from tests.databases import enrol
from tests.integration.scheduler.small import LAYOUT, a_training
from tests.scene import Scene, until
from tests.sites import attending, granted, honest, silent

pytestmark = pytest.mark.integration

STRANGER = ClientId(UUID(int=0xDEAD))


async def make_due(scene: Scene, **changes: object) -> None:
    changes |= {"due_at": func.now() - text("interval '1 hour'")}
    async with scene.engine.begin() as connection:
        await connection.execute(update(outbox).values(**changes))


async def waiting(scene: Scene, training: TrainingId) -> list[Any]:
    return await scene.rows(select(outbox).where(outbox.c.training_id == training))


async def test_a_row_of_another_process_is_published_at_once_when_it_is_announced(scene: Scene) -> None:
    starts = [await a_training(scene) for _ in range(4)]
    async with attending(scene, LAYOUT, silent) as sites, scene.running(aggregators=0):
        await scene.order(starts[0])
        await sites.told(TrainRound, starts[0].training_id, 1)  # it runs and listens
        took = []
        for start in starts[1:]:
            began = time.monotonic()
            await scene.order(start)
            await sites.told(TrainRound, start.training_id, 1)
            took.append(time.monotonic() - began)
    assert min(took) < 0.2, "row, command, saga, commit and the client's order, all in this time"


async def test_a_row_that_nobody_announced_is_found_soon(scene: Scene) -> None:
    start = await a_training(scene)
    async with attending(scene, LAYOUT, silent) as sites, scene.running(aggregators=0):
        await scene.order(start, notify=False)
        await sites.told(TrainRound, start.training_id, len(scene.place.clients))


async def test_what_was_not_confirmed_is_published_after_a_restart(scene: Scene) -> None:
    """As if the process had died between its commit and the broker's answer."""
    start = await a_training(scene)
    async with attending(scene, LAYOUT, silent) as sites:
        async with scene.running(aggregators=0):
            await scene.order(start)
            first = await sites.told(TrainRound, start.training_id, len(scene.place.clients))
        await _unconfirm(scene)
        sites.heard.clear()
        async with scene.running(aggregators=0):
            again = await sites.told(TrainRound, start.training_id, len(scene.place.clients))
    assert {each.task_id for each in again} == {each.task_id for each in first}


async def _unconfirm(scene: Scene) -> None:
    """Leased for long, and never confirmed."""
    changes = {"confirmed": False, "due_at": func.now() + text("interval '1 hour'")}
    async with scene.engine.begin() as connection:
        await connection.execute(update(outbox).values(**changes))


async def test_a_confirmed_command_is_not_published_again_by_a_restart(scene: Scene) -> None:
    start = await a_training(scene)
    async with attending(scene, LAYOUT, silent) as sites:
        async with scene.running(aggregators=0):
            await scene.order(start)
            await sites.told(TrainRound, start.training_id, len(scene.place.clients))
            await until(lambda: _all_confirmed(scene, start.training_id))
        sites.heard.clear()
        async with scene.running(aggregators=0):
            await scene.order(AbortTraining(training_id=start.training_id, reason="enough"))
            await sites.told(TrainingEnded, start.training_id, len(scene.place.clients))
    assert sites.orders(TrainRound, start.training_id) == []


async def _all_confirmed(scene: Scene, training: TrainingId) -> bool:
    return all(row.confirmed for row in await waiting(scene, training))


async def test_an_unanswered_command_comes_again_with_a_fresh_ticket(scene: Scene) -> None:
    start = await a_training(scene)
    async with attending(scene, LAYOUT, silent) as sites, scene.running(aggregators=0):
        await scene.order(start)
        first = await sites.told(TrainRound, start.training_id, len(scene.place.clients))
        await until(lambda: _all_confirmed(scene, start.training_id))
        await asyncio.sleep(1.01)  # signatures bear their second
        sites.heard.clear()
        await make_due(scene)
        again = await sites.told(TrainRound, start.training_id, len(scene.place.clients))
    old = {each.task_id: granted(each).upload_url for each in first}
    new = {each.task_id: granted(each).upload_url for each in again}
    assert old.keys() == new.keys()
    assert all(old[task] != new[task] for task in old)
    assert {row.attempts for row in await waiting(scene, start.training_id)} == {2}


async def test_confirmed_events_leave_the_outbox_and_unanswered_commands_stay(scene: Scene) -> None:
    start = await a_training(scene)
    async with attending(scene, LAYOUT, silent) as sites, scene.running(aggregators=0):
        await scene.order(start)
        await sites.told(TrainRound, start.training_id, len(scene.place.clients))
        await until(lambda: _all_confirmed(scene, start.training_id))
    left = await waiting(scene, start.training_id)
    assert {row.exchange for row in left} == {"clients"}
    assert sorted(row.routing_key for row in left) == [str(client) for client in scene.place.clients]


async def test_the_plan_lies_in_the_store_before_anybody_is_told_to_use_it(scene: Scene) -> None:
    start = await a_training(scene, shard_bytes=8)
    worker = Handlers(Worker(scene.objects), await scene.publisher(Role.AGGREGATOR))
    async with attending(scene, LAYOUT, honest), scene.running(aggregators=0):
        await scene.order(start)
        for command in await orders_to_aggregators(scene, len(scene.place.clients)):
            assert isinstance(command.data, InspectUpdate)
            await worker.handle(command)
        (order, *_) = await orders_to_aggregators(scene, 1)
        assert isinstance(order.data, ReduceShard)
        plan = ReducePlan.model_validate_json(fetch(scene.objects, order.data.plan, 2**20))
    assert [each.client_id for each in plan.updates] == list(scene.place.clients)


async def orders_to_aggregators(scene: Scene, count: int) -> list[Envelope[AggregatorCommand]]:
    return [decode(message.body, AggregatorCommand) for message in await scene.take("aggregator", count)]


async def test_a_notice_to_a_client_without_a_queue_is_dropped_after_its_attempts(scene: Scene) -> None:
    await enrol(scene.engine, [(STRANGER, "client.nowhere")])
    start = await a_training(scene, clients=(STRANGER,))
    async with scene.running(aggregators=0):
        await scene.order(start)
        await scene.happened(start.training_id, "RoundStarted")
        await scene.order(AbortTraining(training_id=start.training_id, reason="enough"))
        await scene.ended(start.training_id)
        await until(lambda: _is_alone(scene, STRANGER))
        await make_due(scene, attempts=7)
        await until(lambda: _was_tried(scene, 8))
        await make_due(scene, attempts=8)
        await scene.published(start.training_id)


async def test_a_broker_that_is_away_costs_a_notice_none_of_its_attempts(scene: Scene) -> None:
    start = await a_training(scene)
    await _leave_notice(scene, start.training_id, attempts=7)
    (before,) = await waiting(scene, start.training_id)
    async with _relaying(scene, BrokerSettings(url=SecretStr("amqp://nobody:x@127.0.0.1:1/nowhere"))):
        await until(lambda: _was_handed_back(scene, before))


async def test_a_row_that_cannot_be_read_holds_up_no_other(scene: Scene) -> None:
    start = await a_training(scene)
    await _leave_notice(scene, start.training_id, body=b"{}")
    async with attending(scene, LAYOUT, silent) as sites, scene.running(aggregators=0):
        await scene.order(start)
        await sites.told(TrainRound, start.training_id, len(scene.place.clients))


async def _leave_notice(scene: Scene, training: TrainingId, **columns: object) -> None:
    client = scene.place.clients[0]
    notice = TrainingEnded(training_id=training, client_id=client, outcome=Outcome.COMPLETED)
    key = order_id(training, client)
    body = encode(enclose(notice, id=key, source="scheduler", time=datetime.now(UTC)))
    row = {
        "id": key,
        "training_id": training,
        "exchange": "clients",
        "routing_key": str(client),
        "body": body,
    }
    async with scene.engine.begin() as connection:
        await connection.execute(insert(outbox).values(**{**row, "until_answered": False, **columns}))


@asynccontextmanager
async def _relaying(scene: Scene, broker: BrokerSettings) -> AsyncIterator[None]:
    """The reconciler and its marker alone."""
    async with Connection(broker, "test relay") as line:
        relay = Relay(scene.engine, Publisher(line), lambda: scene.objects, TicketOffice(scene.place.store()))
        loops = [asyncio.create_task(loop()) for loop in (relay.post_due, relay.mark)]
        try:
            yield
        finally:
            for task in loops:
                task.cancel()
            await asyncio.gather(*loops, return_exceptions=True)


async def _was_handed_back(scene: Scene, before: Any) -> bool:
    (row,) = await scene.rows(select(outbox))
    return bool(row.due_at > before.due_at and row.attempts == before.attempts)


async def _is_alone(scene: Scene, client: ClientId) -> bool:
    rows = await scene.rows(select(outbox))
    return [(row.exchange, row.routing_key, row.until_answered) for row in rows] == [
        ("clients", str(client), False)
    ]


async def _was_tried(scene: Scene, times: int) -> bool:
    return [row.attempts for row in await scene.rows(select(outbox))] == [times]


async def test_an_order_to_a_client_without_a_queue_stays_until_it_has_one(scene: Scene) -> None:
    await enrol(scene.engine, [(STRANGER, "client.nowhere")])
    start = await a_training(scene, clients=(STRANGER,))
    async with scene.running(aggregators=0):
        await scene.order(start)
        await scene.happened(start.training_id, "RoundStarted")
        await make_due(scene, attempts=5_000)  # a month of tries
        await until(lambda: _was_tried(scene, 5_001))
    (row,) = await waiting(scene, start.training_id)
    assert (row.confirmed, row.until_answered) == (False, True)
