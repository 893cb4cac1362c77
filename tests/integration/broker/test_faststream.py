"""Services on FastStream, under our rules, on a real broker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import aiormq
import pytest
from faststream import AckPolicy

from infra.broker.faststream_factory import Handler, Source, make_broker, subscribe, subscriber
from infra.broker.outgoing import Outgoing, outgoing
from infra.broker.publisher import Publisher
from infra.broker.topology import Queue
from schemas.commands import AggregatorCommand, ReduceShard
from schemas.envelope import Envelope, enclose
from schemas.ids import MessageId, TrainingId
from schemas.refusal import Refusal
from schemas.routing import REASON_HEADER, Role
from tests.integration.broker.conftest import Broker
from tests.integration.broker.messages import depth

pytestmark = pytest.mark.integration

ORDER = ReduceShard(
    training_id=TrainingId(UUID(int=7)), round=0, epoch=1, plan="plans/p", plan_sha256="0" * 64, shard=3
)


class NotThisOne(Refusal):
    code = "not_this_one"


class Aggregator:
    """Notes what it is handed, and fails as told: once for each entry."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.seen: asyncio.Queue[Envelope[Any]] = asyncio.Queue()

    async def handle(self, envelope: Envelope[Any]) -> None:
        await self.seen.put(envelope)
        if self.failures:
            raise self.failures.pop(0)


def an_order() -> Outgoing:
    envelope = enclose(
        ORDER, id=MessageId(UUID(int=9)), source="scheduler", time=datetime(2026, 1, 1, tzinfo=UTC)
    )
    return outgoing(envelope, "commands", "aggregator.ReduceShard")


@asynccontextmanager
async def serving(broker: Broker, handler: Handler) -> AsyncIterator[None]:
    async with broker.connection("aggregator") as connection:
        service = make_broker(broker.settings("aggregator"), "test aggregator")
        source = Source(Queue.AGGREGATOR, AggregatorCommand, (Role.SCHEDULER,), prefetch=2)
        subscribe(service, Publisher(connection), source, handler)
        async with service:
            await service.start()
            yield


async def emptied(channel: aiormq.Channel) -> None:
    async with asyncio.timeout(10):
        while await depth(channel, Queue.AGGREGATOR):  # noqa: ASYNC110 -- another process empties it
            await asyncio.sleep(0.01)


async def dead_letter(channel: aiormq.Channel) -> tuple[bytes, str]:
    async with asyncio.timeout(10):
        while True:
            found = await channel.basic_get(Queue.DEAD_LETTERS, no_ack=True)
            if isinstance(found.delivery, aiormq.spec.Basic.GetOk):
                return found.body, str((found.header.properties.headers or {})[REASON_HEADER])
            await asyncio.sleep(0.01)


async def test_what_the_handler_has_done_is_acknowledged(
    broker: Broker, scheduler: Publisher, admin_channel: aiormq.Channel
) -> None:
    aggregator = Aggregator()
    async with serving(broker, aggregator.handle):
        await scheduler.publish(an_order())
        assert (await aggregator.seen.get()).data == ORDER
    await emptied(admin_channel)
    assert aggregator.seen.empty()


async def test_a_fault_is_tried_again_until_it_is_none(broker: Broker, scheduler: Publisher) -> None:
    aggregator = Aggregator(OSError("no store"), OSError("no store"))
    async with serving(broker, aggregator.handle):
        await scheduler.publish(an_order())
        seen = [await aggregator.seen.get() for _ in range(3)]
    assert [envelope.data for envelope in seen] == [ORDER] * 3


async def test_a_refusal_is_a_dead_letter_with_its_code(
    broker: Broker, scheduler: Publisher, admin_channel: aiormq.Channel
) -> None:
    aggregator = Aggregator(NotThisOne("it is Sunday"))
    async with serving(broker, aggregator.handle):
        await scheduler.publish(an_order())
        assert await dead_letter(admin_channel) == (an_order().body, "not_this_one: it is Sunday")


@pytest.mark.parametrize("body", [b"", b"\xff\x00", b"[]", b'{"type": "ReduceShard"}', b"9" * 1_000])
async def test_poison_is_a_dead_letter_and_the_next_message_is_handled(
    broker: Broker, scheduler: Publisher, admin_channel: aiormq.Channel, body: bytes
) -> None:
    aggregator = Aggregator()
    async with serving(broker, aggregator.handle):
        await scheduler.publish(replace(an_order(), body=body))
        await scheduler.publish(an_order())
        assert (await aggregator.seen.get()).data == ORDER
        dead, reason = await dead_letter(admin_channel)
    assert dead == body
    assert reason.startswith("malformed: ")


async def test_orders_of_others_than_the_scheduler_are_refused(
    broker: Broker, admin_channel: aiormq.Channel
) -> None:
    connection, channel = await broker.channel_of(broker.settings(broker.administrator, broker.password))
    async with connection, serving(broker, Aggregator().handle):
        await channel.basic_publish(
            an_order().body, exchange="commands", routing_key="aggregator.ReduceShard"
        )
        _, reason = await dead_letter(admin_channel)
    assert reason.startswith("forged: ")


async def test_no_message_waits_behind_the_prefetch_of_a_busy_handler(
    broker: Broker, scheduler: Publisher, admin_channel: aiormq.Channel
) -> None:
    release = asyncio.Event()
    busy: asyncio.Queue[None] = asyncio.Queue()

    async def handle(envelope: Envelope[Any]) -> None:
        await busy.put(None)
        await release.wait()

    async with serving(broker, handle):
        await scheduler.publish_all(replace(an_order(), message_id=str(i)) for i in range(5))
        for _ in range(2):
            await busy.get()
        assert busy.empty()
        assert await depth(admin_channel, Queue.AGGREGATOR) == 3
        release.set()
        await emptied(admin_channel)


async def test_a_service_whose_connection_was_cut_goes_on(broker: Broker, scheduler: Publisher) -> None:
    aggregator = Aggregator()
    async with serving(broker, aggregator.handle):
        await broker.admin.drop_connections("aggregator")
        await scheduler.publish(an_order())
        assert (await asyncio.wait_for(aggregator.seen.get(), 20)).data == ORDER


def test_every_subscriber_says_how_it_acknowledges_how_much_it_takes_and_that_it_declares_nothing(
    broker: Broker,
) -> None:
    service = make_broker(broker.settings("aggregator"), "test")
    one, two = subscriber(service, "a", 3), subscriber(service, "b", 3)
    assert one.channel is not two.channel
    for made in (one, two):
        assert made._outer_config.ack_policy is AckPolicy.MANUAL
        assert made.channel is not None
        assert made.channel.prefetch_count == 3
        assert not made.queue.declare
