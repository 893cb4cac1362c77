"""Puts the scheduler together."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import cache, partial

from sqlalchemy.ext.asyncio import AsyncEngine

from infra.broker.connection import Connection
from infra.broker.consumer import consuming
from infra.broker.publisher import Publisher
from infra.broker.settings import BrokerSettings
from infra.broker.supervise import supervise
from infra.broker.topology import Queue, scheduler_queues
from infra.database.engine import connect
from infra.objects.settings import ObjectStoreSettings
from infra.objects.store import ObjectStore
from infra.objects.tickets import TicketOffice
from services.scheduler.handlers import Handlers
from services.scheduler.presence import PostgresPresence, watch
from services.scheduler.relay import Relay
from services.scheduler.settings import Settings
from services.scheduler.store import PostgresTrainings

Loop = Callable[[], Awaitable[None]]


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Run every loop under supervision until `stop`, then finish what is in hand."""
    broker = BrokerSettings(url=settings.broker_url)
    async with AsyncExitStack() as held:
        engine = connect(settings.database_url.get_secret_value(), pool_size=settings.database_pool)
        held.push_async_callback(engine.dispose)
        publisher = Publisher(await held.enter_async_context(Connection(broker, "scheduler publishes")))
        intake = await held.enter_async_context(Connection(broker, "scheduler consumes"))
        loops = _loops(settings, engine, publisher, intake)
        if settings.management_url:
            loops["mender"] = lambda: _mend(settings, engine, broker.vhost)
        await _run_until(stop, loops)


def _loops(
    settings: Settings, engine: AsyncEngine, publisher: Publisher, intake: Connection
) -> dict[str, Loop]:
    store = _object_settings(settings)
    relay = Relay(engine, publisher, partial(_objects, store), TicketOffice(store))
    handlers = Handlers(PostgresTrainings(engine), relay)
    presence = PostgresPresence(engine)

    async def consume() -> None:
        async with consuming(intake, publisher, scheduler_queues(), prefetch=settings.prefetch) as batches:
            await handlers.consume(batches)

    async def attend() -> None:
        async with consuming(intake, publisher, (Queue.PRESENCE,), prefetch=settings.prefetch) as batches:
            await watch(batches, presence, relay.renew)

    return {
        "consumer": consume,
        "timers": handlers.fire_timers,
        "relay": relay.post_fresh,
        "marker": relay.mark,
        "reconciler": relay.post_due,
        "listener": relay.listen,
        "presence": attend,
    }


async def _run_until(stop: asyncio.Event, loops: dict[str, Loop]) -> None:
    tasks = [asyncio.create_task(supervise(name, loop), name=name) for name, loop in loops.items()]
    try:
        await stop.wait()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _mend(settings: Settings, engine: AsyncEngine, vhost: str) -> None:
    """A background loop.  It begins late, and a restart should not wait for what it imports."""
    await asyncio.sleep(settings.mend_every_s)
    from infra.broker.admin import BrokerAdmin  # noqa: PLC0415 -- as said above
    from services.scheduler.mending import Mender  # noqa: PLC0415 -- as said above

    assert settings.management_url is not None
    password = settings.management_password.get_secret_value()
    async with BrokerAdmin(settings.management_url, settings.management_user, password, vhost) as admin:
        await Mender(engine, admin).watch(settings.mend_every_s)


@cache
def _objects(settings: ObjectStoreSettings) -> ObjectStore:
    """Made when the first object is to be stored: the SDK is slow to import."""
    from infra.objects.minio_objects import MinioObjects  # noqa: PLC0415 -- as said above

    return MinioObjects(settings)


def _object_settings(settings: Settings) -> ObjectStoreSettings:
    return ObjectStoreSettings(
        url=settings.s3_url,
        public_url=settings.s3_public_url,
        access_key=settings.s3_access_key,
        secret_key=settings.s3_secret_key,
        bucket=settings.s3_bucket,
        write_once=settings.s3_write_once,
    )
