"""Puts an aggregator worker together.  Any number of them share one queue."""

import asyncio

from faststream.rabbit import RabbitBroker

from infra.broker.connection import connect_patiently
from infra.broker.faststream_factory import Source, make_broker, subscribe
from infra.broker.publisher import Publisher
from infra.broker.settings import BrokerSettings
from infra.broker.topology import Queue
from infra.objects.minio_objects import MinioObjects
from infra.objects.settings import ObjectStoreSettings
from infra.objects.store import ObjectStore
from infra.plugins import load_rules
from schemas.commands import AggregatorCommand
from schemas.routing import Role
from services.aggregator.handlers import Handlers
from services.aggregator.settings import Settings
from services.aggregator.work import Worker


def create_broker(settings: Settings, publisher: Publisher, objects: ObjectStore) -> RabbitBroker:
    broker = make_broker(_broker(settings), "aggregator consumes", graceful_timeout_s=settings.drain_s)
    source = Source(Queue.AGGREGATOR, AggregatorCommand, (Role.SCHEDULER,), settings.parallel)
    subscribe(
        broker,
        publisher,
        source,
        Handlers(Worker(objects, load_rules(settings.strategies)), publisher).handle,
    )
    return broker


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Work until `stop`, then finish what is in hand."""
    objects = MinioObjects(_objects(settings))
    async with await connect_patiently(_broker(settings), "aggregator publishes") as connection:
        broker = create_broker(settings, Publisher(connection), objects)
        async with broker:
            await broker.start()
            await stop.wait()


def _broker(settings: Settings) -> BrokerSettings:
    return BrokerSettings(url=settings.broker_url)


def _objects(settings: Settings) -> ObjectStoreSettings:
    return ObjectStoreSettings(
        url=settings.s3_url,
        access_key=settings.s3_access_key,
        secret_key=settings.s3_secret_key,
        bucket=settings.s3_bucket,
    )
