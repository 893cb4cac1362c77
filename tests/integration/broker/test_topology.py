"""The topology on a real broker."""

from dataclasses import replace

import aiormq
import pytest

from infra.broker.admin import AdministrationRefused, BrokerAdmin
from infra.broker.connection import Connection
from infra.broker.errors import BrokerUnavailable, Unroutable
from infra.broker.event_log import read_events
from infra.broker.publisher import Confirmed, Publisher
from infra.broker.topology import Queue, client_queue, scheduler_queues
from infra.stack.record import Endpoints
from schemas.routing import (
    EVENTS,
    FROM_AGGREGATOR,
    FROM_CLIENTS,
    PRESENCE,
    REFUSED,
    TABLE,
    TO_AGGREGATOR,
    TO_CLIENTS,
    TO_SCHEDULER,
    Exchange,
    Route,
)
from tests.integration.broker.conftest import ANA, BEN, Broker, ana_queue
from tests.integration.broker.messages import a_message, a_report, along, depth

pytestmark = pytest.mark.integration

ALL = (*scheduler_queues(), *Queue)
ORDERS_AND_REPORTS = [route for route in TABLE if route.exchange != Exchange.EVENTS]
PUBLISHERS = {"scheduler": "scheduler", "api": "scheduler", "aggregator": "aggregator", "client": str(ANA)}


def expected_queues(route: Route) -> tuple[str, ...]:
    if route == PRESENCE:
        return (Queue.PRESENCE,)
    if route in (*TO_SCHEDULER.values(), *FROM_CLIENTS.values(), *FROM_AGGREGATOR.values()):
        return scheduler_queues()
    if route in TO_AGGREGATOR.values():
        return (Queue.AGGREGATOR,)
    assert route in TO_CLIENTS.values()
    return (ana_queue(),)


async def test_declaring_twice_changes_nothing_and_leaves_no_difference(broker: Broker) -> None:
    await broker.admin.declare(broker.definitions)
    assert await broker.admin.check(broker.definitions) == ()


async def test_what_was_removed_or_changed_is_named(broker: Broker, admin_channel: aiormq.Channel) -> None:
    await admin_channel.exchange_delete("discarded")
    await admin_channel.queue_unbind(Queue.DEAD_LETTERS, "uplink", "*.Refused")
    await admin_channel.queue_delete(Queue.AGGREGATOR)
    await admin_channel.queue_declare(Queue.AGGREGATOR, durable=True)
    found = await broker.admin.check(broker.definitions)
    assert "exchange discarded is missing" in found
    assert "binding commands queue aggregator aggregator.* is missing" in found
    assert "binding uplink queue dead-letters *.Refused is missing" in found
    assert any(told.startswith("queue aggregator: arguments is") for told in found)


async def test_an_empty_broker_misses_everything(broker: Broker) -> None:
    await broker.admin.delete_vhost()
    found = await broker.admin.check(broker.definitions)
    assert f"virtual host {broker.admin.vhost} is missing" in found
    assert "queue presence is missing" in found


@pytest.mark.parametrize("route", ORDERS_AND_REPORTS, ids=lambda route: f"{route.exchange}-{route.name}")
async def test_every_message_of_the_routing_table_reaches_its_queue(
    broker: Broker, ana: Publisher, admin_channel: aiormq.Channel, route: Route
) -> None:
    login = PUBLISHERS[route.producers[0]]
    sender = login if login != "scheduler" else str(ANA)
    async with broker.connection(login) as connection:
        await Publisher(connection).publish(along(route, sender))
    reached = [queue for queue in (*ALL, ana_queue()) if await depth(admin_channel, queue)]
    assert len(reached) == 1
    assert reached[0] in expected_queues(route)


async def test_every_event_is_kept_in_the_log_in_order_and_can_be_read_from_any_offset(
    broker: Broker, scheduler: Publisher, stack: Endpoints
) -> None:
    sent = [replace(along(route, ANA), body=name.encode()) for name, route in EVENTS.items()]
    await scheduler.publish_all(sent)
    settings = broker.settings(stack.rabbit.user, stack.rabbit.password)
    async with Connection(settings, "test reader") as reader:
        everything = [event async for event in read_events(reader, "first", idle_s=1.0)]
        rest = [event async for event in read_events(reader, 5, idle_s=1.0)]
    assert everything == list(enumerate(name.encode() for name in EVENTS))
    assert rest == everything[5:]


async def test_messages_of_one_training_share_a_partition_and_trainings_spread(
    broker: Broker, scheduler: Publisher, ana: Publisher, admin_channel: aiormq.Channel
) -> None:
    await scheduler.publish(a_message("commands", "scheduler.StartTraining"))
    await ana.publish(a_report(ANA))
    depths = [await depth(admin_channel, queue) for queue in scheduler_queues()]
    assert sorted(depths) == [0, 0, 0, 2]


@pytest.mark.parametrize(
    ("exchange", "key"), [("commands", "nobody.Knows"), ("clients", str(BEN)), ("commands", "scheduler")]
)
async def test_an_order_nobody_takes_comes_back(scheduler: Publisher, exchange: str, key: str) -> None:
    with pytest.raises(Unroutable, match=key):
        await scheduler.publish(a_message(exchange, key))


async def test_a_report_nobody_knows_is_kept_as_unrouted(
    ana: Publisher, admin_channel: aiormq.Channel
) -> None:
    await ana.publish(a_report(ANA, "Nonsense"))
    assert await depth(admin_channel, Queue.UNROUTED) == 1


async def test_what_a_site_refuses_reaches_the_dead_letters_and_nothing_else(
    ana: Publisher, admin_channel: aiormq.Channel
) -> None:
    await ana.publish(a_report(ANA, REFUSED))
    assert [queue for queue in ALL if await depth(admin_channel, queue)] == [Queue.DEAD_LETTERS]


async def test_a_batch_is_answered_message_by_message(scheduler: Publisher) -> None:
    good = [a_message("events", f"training.{i}.RoundStarted") for i in range(250)]
    bad = a_message("clients", str(BEN))
    outcomes = await scheduler.publish_all([*good, bad, good[0]])
    assert [type(outcome) for outcome in outcomes] == [*[Confirmed] * 250, Unroutable, Confirmed]


async def test_enrolling_twice_is_enrolling_once_and_revoking_twice_too(broker: Broker) -> None:
    queue = client_queue(BEN, "xyz")
    for _ in range(2):
        await broker.admin.enrol_client(BEN, "secret", queue)
    assert queue in await broker.admin.depths()
    for _ in range(2):
        await broker.admin.revoke_client(BEN, queue)
    assert queue not in await broker.admin.depths()


async def test_a_lost_client_queue_is_made_again(
    broker: Broker, ana: Publisher, scheduler: Publisher, admin_channel: aiormq.Channel
) -> None:
    await admin_channel.queue_delete(ana_queue())
    assert await broker.admin.ensure_client_queues({ANA: ana_queue()}) == (ANA,)
    assert await broker.admin.ensure_client_queues({ANA: ana_queue()}) == ()
    await scheduler.publish(a_message("clients", str(ANA)))


async def test_an_integrator_gets_the_events_it_asked_for(
    broker: Broker, scheduler: Publisher, admin_channel: aiormq.Channel
) -> None:
    queue = await broker.admin.add_integrator("hospital", "secret", ["training.*.RoundStarted"])
    await scheduler.publish(a_message("events", "training.1.RoundStarted"))
    await scheduler.publish(a_message("events", "training.1.RoundClosed"))
    assert await depth(admin_channel, queue) == 1
    await broker.admin.remove_integrator("hospital")


async def test_wrong_administrators_and_dead_brokers_are_told_apart(stack: Endpoints) -> None:
    async with BrokerAdmin(stack.rabbit.management_url, "admin", "wrong") as admin:
        with pytest.raises(AdministrationRefused, match="401"):
            await admin.depths()
    async with BrokerAdmin("http://127.0.0.1:1", "admin", "wrong") as admin:
        with pytest.raises(BrokerUnavailable, match="does not answer"):
            await admin.depths()
