"""What an enrolled client can and cannot do on a real broker, attempt by attempt."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiormq
import pytest
from aiormq import spec
from aiormq.exceptions import ChannelAccessRefused, ChannelClosed, ChannelPreconditionFailed

from infra.broker.connection import Connection, connect
from infra.broker.consumer import consuming
from infra.broker.delivery import Delivery, vouched
from infra.broker.errors import BrokerUnavailable, ChannelDied, Forged, LoginRefused
from infra.broker.publisher import Publisher
from infra.broker.topology import Queue, client_queue, scheduler_queues
from tests.integration.broker.conftest import ANA, BEN, Broker, ana_queue
from tests.integration.broker.messages import HOSTILE_PROPERTIES, a_report, depth, publish_raw

pytestmark = pytest.mark.integration

Attempt = Callable[[aiormq.Channel], Awaitable[object]]
BENS_QUEUE = client_queue(BEN, "xyz")
OWN_KEY = f"{ANA}.ModelUploaded"


@pytest.fixture
async def channel(broker: Broker) -> AsyncIterator[aiormq.Channel]:
    """Ana's, with Ben enrolled beside her."""
    await broker.admin.enrol_client(ANA, f"{ANA}-secret", ana_queue())
    await broker.admin.enrol_client(BEN, f"{BEN}-secret", BENS_QUEUE)
    async with broker.connection(str(ANA)) as connection:
        yield await connection.channel(confirms=True)


def publishing(exchange: str, key: str, **properties: Any) -> Attempt:
    return lambda channel: channel.basic_publish(
        b"{}",
        exchange=exchange,
        routing_key=key,
        properties=spec.Basic.Properties(**properties),
        mandatory=True,
    )


def consuming_from(queue: str) -> Attempt:
    return lambda channel: channel.basic_consume(queue, _ignore)


async def _ignore(message: object) -> None:
    """Not the point."""


FORBIDDEN: dict[str, Attempt] = {
    "report under another's key": publishing("uplink", f"{BEN}.ModelUploaded"),
    "refuse under another's key": publishing("uplink", f"{BEN}.Refused"),
    "report under a longer key": publishing("uplink", f"{OWN_KEY}.x"),
    "publish to the default exchange": publishing("", "scheduler.p0"),
    "publish to commands": publishing("commands", "scheduler.AbortTraining"),
    "publish to clients": publishing("clients", str(BEN)),
    "publish to events": publishing("events", "training.1.RoundStarted"),
    "publish to the retry ladder": publishing("retry.1s", "scheduler.p0"),
    "publish to dead letters": publishing("dead-letters", "x"),
    "publish to amq.topic": publishing("amq.topic", "x"),
    "consume another's queue": consuming_from(BENS_QUEUE),
    "consume a service's queue": consuming_from("scheduler.p0"),
    "consume dead letters": consuming_from(Queue.DEAD_LETTERS),
    "read the event log": consuming_from(Queue.EVENT_LOG),
    "get from another's queue": lambda channel: channel.basic_get(BENS_QUEUE),
    "purge another's queue": lambda channel: channel.queue_purge(BENS_QUEUE),
    "declare a queue": lambda channel: channel.queue_declare("mine", durable=True),
    "declare a server-named queue": lambda channel: channel.queue_declare("", exclusive=True),
    "declare an exchange": lambda channel: channel.exchange_declare("mine"),
    "bind its queue": lambda channel: channel.queue_bind(ana_queue(), "events", "#"),
    "bind exchanges": lambda channel: channel.exchange_bind("uplink", "events", "#"),
    "delete its queue": lambda channel: channel.queue_delete(ana_queue()),
    "delete an exchange": lambda channel: channel.exchange_delete("uplink"),
}
ALLOWED: dict[str, Attempt] = {
    "report": publishing("uplink", OWN_KEY, user_id=str(ANA)),
    "refuse": publishing("uplink", f"{ANA}.Refused", user_id=str(ANA)),
    "beat": publishing("uplink", f"{ANA}.Heartbeat", user_id=str(ANA)),
    "consume its queue": consuming_from(ana_queue()),
    "get from its queue": lambda channel: channel.basic_get(ana_queue()),
    "purge its queue": lambda channel: channel.queue_purge(ana_queue()),
    "ask whether a queue exists": lambda channel: channel.queue_declare("scheduler.p0", passive=True),
}


@pytest.mark.parametrize("attempt", FORBIDDEN.values(), ids=FORBIDDEN)
async def test_a_client_may_not(channel: aiormq.Channel, attempt: Attempt) -> None:
    with pytest.raises(ChannelAccessRefused):
        await attempt(channel)


@pytest.mark.parametrize("attempt", ALLOWED.values(), ids=ALLOWED)
async def test_a_client_may(channel: aiormq.Channel, attempt: Attempt) -> None:
    await attempt(channel)


async def test_a_client_cannot_use_anothers_name(channel: aiormq.Channel) -> None:
    with pytest.raises(ChannelPreconditionFailed, match="user_id"):
        await publishing("uplink", OWN_KEY, user_id=str(BEN))(channel)


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({}, "no user_id"),
        ({"user_id": str(ANA), "headers": {"CC": [f"{ANA}.Elsewhere"]}}, "CC or BCC"),
    ],
)
async def test_what_the_broker_lets_by_we_refuse(
    broker: Broker, scheduler: Publisher, channel: aiormq.Channel, told: dict[str, Any], why: str
) -> None:
    await publishing("uplink", OWN_KEY, **told)(channel)
    with pytest.raises(Forged, match=why):
        vouched(await next_delivery(broker, scheduler))


async def test_the_sender_of_a_honest_report_is_vouched_for(
    broker: Broker, scheduler: Publisher, ana: Publisher
) -> None:
    await ana.publish(a_report(ANA))
    assert vouched(await next_delivery(broker, scheduler)) == str(ANA)


@pytest.mark.parametrize("told", HOSTILE_PROPERTIES.values(), ids=HOSTILE_PROPERTIES)
async def test_properties_that_cannot_be_decoded_do_not_stop_the_consumer(
    broker: Broker, scheduler: Publisher, channel: aiormq.Channel, told: tuple[int, bytes]
) -> None:
    await publish_raw(channel.connection, OWN_KEY, *told)
    await publishing("uplink", OWN_KEY, user_id=str(ANA))(channel)
    async with broker.connection("scheduler") as connection:
        intake_of = consuming(connection, scheduler, scheduler_queues(), prefetch=10)
        async with intake_of as intake, asyncio.timeout(10):
            batches = intake.batches(max_size=1)
            (hostile,), (honest,) = await anext(batches), await anext(batches)
            with pytest.raises(Forged, match="unreadable"):
                vouched(hostile)
            await intake.dead_letter(hostile, "forged")
    assert vouched(honest) == str(ANA)


@pytest.mark.parametrize("kind", ["CC", "BCC"])
async def test_copies_to_anothers_key_are_refused_or_show_who_sent_them(
    broker: Broker, scheduler: Publisher, channel: aiormq.Channel, kind: str
) -> None:
    """RabbitMQ 4.0.5 refuses them; older ones let them by and strip BCC, so that nobody can see it."""
    headers = {kind: [f"{BEN}.ModelUploaded"]}
    try:
        await publishing("uplink", OWN_KEY, user_id=str(ANA), headers=headers)(channel)
    except ChannelAccessRefused:
        return
    delivery = await next_delivery(broker, scheduler)
    assert delivery.sender == str(ANA)


async def test_a_client_has_few_connections_and_channels(broker: Broker, channel: aiormq.Channel) -> None:
    settings = broker.settings(str(ANA))
    async with await connect(settings, "second") as second:
        with pytest.raises(BrokerUnavailable, match="connections left"):
            await connect(settings, "third")
        with pytest.raises(ChannelDied):
            await open_channels(second, 9)


async def test_a_message_larger_than_the_broker_takes_is_refused(channel: aiormq.Channel) -> None:
    with pytest.raises((ChannelPreconditionFailed, ChannelClosed)):
        await channel.basic_publish(bytes(2**20 + 1), exchange="uplink", routing_key=OWN_KEY)


async def test_a_revoked_client_is_cut_off_at_once(broker: Broker, channel: aiormq.Channel) -> None:
    await broker.admin.revoke_client(ANA, ana_queue())
    with pytest.raises(LoginRefused):
        await connect(broker.settings(str(ANA)), "again")
    await asyncio.wait([channel.closing], timeout=5)
    assert channel.is_closed


async def test_an_integrator_reads_its_queue_and_nothing_else(
    broker: Broker, admin_channel: aiormq.Channel
) -> None:
    queue = await broker.admin.add_integrator("hospital", "integrator.hospital-secret", ["training.#"])
    async with broker.connection("integrator.hospital") as connection:
        await consuming_from(queue)(await connection.channel())
        for attempt in (publishing("events", "training.1.X"), consuming_from("scheduler.p0")):
            with pytest.raises(ChannelAccessRefused):
                await attempt(await connection.channel(confirms=True))
    await broker.admin.remove_integrator("hospital")
    assert await depth(admin_channel, "scheduler.p0") == 0


async def test_an_integrator_of_a_service_s_name_takes_nothing_from_the_service(
    broker: Broker, admin_channel: aiormq.Channel
) -> None:
    await broker.admin.add_integrator("scheduler", "another-secret", [])
    await broker.admin.remove_integrator("scheduler")
    async with broker.connection("scheduler") as connection:
        await consuming_from("scheduler.p0")(await connection.channel())


async def next_delivery(broker: Broker, scheduler: Publisher) -> Delivery:
    async with (
        broker.connection("scheduler") as connection,
        consuming(connection, scheduler, scheduler_queues(), prefetch=1) as intake,
    ):
        return (await anext(intake.batches()))[0]


async def open_channels(connection: Connection, count: int) -> None:
    for _ in range(count):
        await connection.channel()
