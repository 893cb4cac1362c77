"""Deliveries on a real broker: batches, the retry ladder, dead letters, and what survives a cut."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import aiormq
import pytest
from pydantic import SecretStr

from infra.broker import delivery as deliveries
from infra.broker.connection import Connection, connect, connect_patiently
from infra.broker.consumer import Batch, Batches, consuming
from infra.broker.errors import BrokerUnavailable, ChannelDied, Forged, LoginRefused, OutcomeUnknown
from infra.broker.publisher import Publisher
from infra.broker.settings import BrokerSettings
from infra.broker.topology import LADDER, Queue, scheduler_queues
from schemas.routing import ATTEMPT_HEADER, ORIGIN_HEADER, REASON_HEADER
from tests.integration.broker.conftest import ANA, Broker
from tests.integration.broker.messages import a_message, a_report, depth

NOWHERE = "amqp://ana:secret@127.0.0.1:1/v"
pytestmark = pytest.mark.integration


@pytest.fixture
async def intake(broker: Broker, scheduler: Publisher) -> AsyncIterator[Batches]:
    async with at_work(broker, scheduler) as batches:
        yield batches


@asynccontextmanager
async def at_work(broker: Broker, scheduler: Publisher) -> AsyncIterator[Batches]:
    async with (
        broker.connection("scheduler") as connection,
        consuming(connection, scheduler, scheduler_queues(), prefetch=100) as batches,
    ):
        yield batches


async def take(batches: Batches, count: int = 1) -> Batch:
    """That many deliveries, in however many batches they come."""
    taken: list[deliveries.Delivery] = []
    async with asyncio.timeout(10):
        async for batch in batches.batches(max_size=count):
            taken += batch
            if len(taken) >= count:
                return tuple(taken)
    raise AssertionError("the batches ended")


async def test_a_batch_holds_what_is_at_hand_in_order_and_is_acknowledged_at_once(
    ana: Publisher, intake: Batches, admin_channel: aiormq.Channel
) -> None:
    await ana.publish_all(a_report(ANA, body=str(i).encode()) for i in range(50))
    batch = await take(intake, 50)
    assert [int(one.body) for one in batch] == list(range(50))
    await intake.ack(batch)
    assert await unacked(intake, admin_channel) == 0


async def test_acknowledging_out_of_order_leaves_the_others(
    ana: Publisher, broker: Broker, scheduler: Publisher
) -> None:
    await ana.publish_all(a_report(ANA, body=str(i).encode()) for i in range(6))
    async with at_work(broker, scheduler) as first:
        batch = await take(first, 6)
        await first.ack((batch[4], batch[0], batch[1]))
        await first.ack((batch[2],))
        with pytest.raises(ChannelDied, match="acknowledged before"):
            await first.ack((batch[2],))
    async with at_work(broker, scheduler) as second:
        assert [(one.body, one.redelivered) for one in await take(second, 2)] == [(b"3", True), (b"5", True)]


async def test_a_retried_delivery_comes_back_to_its_queue_as_it_was_and_knows_the_attempt(
    ana: Publisher, intake: Batches
) -> None:
    await ana.publish(a_report(ANA))
    (first,) = await take(intake)
    await intake.retry(first, "no database")
    (second,) = await take(intake)
    assert (second.attempt, second.user_id, second.sender) == (1, "scheduler", str(ANA))
    assert second.headers[REASON_HEADER] == "no database"
    for field in ("queue", "body", "message_id", "type", "routing_key", "correlation_id"):
        assert getattr(second, field) == getattr(first, field)


async def test_after_the_last_attempt_a_delivery_is_a_dead_letter_that_says_why(
    ana: Publisher, intake: Batches, admin_channel: aiormq.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "MAX_ATTEMPTS", len(LADDER) + 2)
    await ana.publish(a_report(ANA))
    for _ in range(len(LADDER) + 2):
        (one,) = await take(intake)
        await intake.retry(one, "no database")
    dead = await admin_channel.basic_get(Queue.DEAD_LETTERS, no_ack=True)
    headers = dead.header.properties.headers or {}
    assert headers[REASON_HEADER] == "gave up after 6 attempts: no database"
    assert headers[ATTEMPT_HEADER] == 5
    assert dead.routing_key == f"{ANA}.ModelUploaded"


async def test_poison_is_put_aside_with_its_reason_and_the_consumer_goes_on(
    ana: Publisher, intake: Batches, admin_channel: aiormq.Channel
) -> None:
    await ana.publish_all([a_report(ANA, body=b"\xff"), a_report(ANA, body=b"good")])
    poison, good = await take(intake, 2)
    await intake.dead_letter(poison, "not JSON")
    await intake.ack((good,))
    dead = await admin_channel.basic_get(Queue.DEAD_LETTERS, no_ack=True)
    headers = dead.header.properties.headers or {}
    assert (dead.body, headers[REASON_HEADER], headers[ORIGIN_HEADER]) == (b"\xff", "not JSON", poison.queue)
    assert headers[deliveries.SENDER_HEADER] == str(ANA)


async def test_a_client_cannot_pretend_to_come_from_the_ladder(ana: Publisher, intake: Batches) -> None:
    forged = {deliveries.SENDER_HEADER: "aggregator", deliveries.KEY_HEADER: "x", ATTEMPT_HEADER: 24}
    message = a_report(ANA)
    await ana.publish(replace(message, headers={**message.headers, **forged}))
    (one,) = await take(intake)
    assert (one.sender, one.routing_key, one.attempt) == (str(ANA), message.key, 0)


async def test_an_unsigned_message_stays_unsigned_on_the_ladder(
    broker: Broker, ana: Publisher, intake: Batches
) -> None:
    connection, channel = await broker.channel_of(broker.settings(str(ANA)))
    async with connection:
        await channel.basic_publish(b"{}", exchange="uplink", routing_key=f"{ANA}.ModelUploaded")
    for _ in range(2):
        (one,) = await take(intake)
        with pytest.raises(Forged, match="user_id"):
            deliveries.vouched(one)
        await intake.retry(one, "again")


async def test_a_cut_connection_ends_the_batches_and_voids_their_tags_but_loses_nothing(
    broker: Broker, ana: Publisher, scheduler: Publisher
) -> None:
    await ana.publish(a_report(ANA))
    async with at_work(broker, scheduler) as first:
        taken = await take(first)
        await cut(broker, "scheduler")
        with pytest.raises(ChannelDied):
            await take(first)
        with pytest.raises(ChannelDied):
            await first.ack(taken)
    async with at_work(broker, scheduler) as second:
        (again,) = await take(second)
        assert (again.body, again.redelivered) == (taken[0].body, True)


async def test_a_publisher_whose_connection_was_cut_works_again(broker: Broker, scheduler: Publisher) -> None:
    await scheduler.publish(a_message("commands", "scheduler.StartTraining"))
    await cut(broker, "scheduler")
    await scheduler.publish(a_message("commands", "scheduler.StartTraining"))


async def test_a_deleted_queue_ends_the_batches(
    broker: Broker, scheduler: Publisher, intake: Batches, admin_channel: aiormq.Channel
) -> None:
    await admin_channel.queue_delete(scheduler_queues()[0])
    with pytest.raises(ChannelDied, match="ended a consumer"):
        await take(intake)


async def test_a_publisher_with_a_wrong_password_says_that_the_outcome_is_unknown(broker: Broker) -> None:
    line = Connection(broker.settings("scheduler", "wrong"), "test")
    with pytest.raises(OutcomeUnknown):
        await Publisher(line).publish(a_message("commands", "scheduler.StartTraining"))


async def test_a_wrong_password_is_said_at_once(broker: Broker) -> None:
    settings = broker.settings("scheduler", "wrong")
    with pytest.raises(LoginRefused, match="'scheduler'"):
        await connect(settings, "test")
    with pytest.raises(LoginRefused):
        await connect_patiently(settings, "test")


async def test_a_missing_virtual_host_and_a_dead_broker_are_waited_for(broker: Broker) -> None:
    with pytest.raises(BrokerUnavailable, match="virtual host exist"):
        await connect(at(f"amqp://scheduler:scheduler-secret@{broker.place}-not"), "test")
    heard: list[str] = []
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await connect_patiently(at(NOWHERE), "test", lambda error, wait: heard.append(str(error)))
    assert heard
    assert "secret" not in heard[0]


async def test_a_publisher_without_a_broker_says_that_the_outcome_is_unknown() -> None:
    async with Connection(at(NOWHERE), "test") as connection:
        with pytest.raises(OutcomeUnknown, match="no confirmation"):
            await Publisher(connection).publish(a_message("commands", "scheduler.StartTraining"))


def at(url: str) -> BrokerSettings:
    return BrokerSettings(url=SecretStr(url))


async def cut(broker: Broker, login: str) -> None:
    """Close its connections from the broker's side, and wait until the broker has."""
    await broker.admin.drop_connections(login)


async def unacked(batches: Batches, channel: aiormq.Channel) -> int:
    await batches._channel.close()
    return sum([await depth(channel, queue) for queue in scheduler_queues()])
