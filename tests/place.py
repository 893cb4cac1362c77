"""Where whole trainings are tested: a virtual host, a database and clients, on real servers."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from pydantic import SecretStr

from infra.broker.admin import BrokerAdmin
from infra.broker.permissions import hashed
from infra.broker.settings import BrokerSettings
from infra.broker.topology import client_queue, definitions
from infra.objects.minio_objects import MinioObjects
from infra.objects.settings import ObjectStoreSettings
from infra.stack.record import Endpoints
from schemas.ids import ClientId
from schemas.routing import Role
from services.aggregator.settings import Settings as AggregatorSettings
from services.scheduler.settings import Settings as SchedulerSettings
from tests.databases import a_database

SERVICES = (Role.API, Role.SCHEDULER, Role.AGGREGATOR)


@dataclass(frozen=True)
class Place:
    """A virtual host, a database and enrolled clients, for as many tests as like."""

    endpoints: Endpoints
    vhost: str
    database: str
    clients: tuple[ClientId, ...]  # sorted

    @property
    def broker(self) -> str:
        return f"{self.endpoints.rabbit.host}:{self.endpoints.rabbit.port}/{self.vhost}"

    @property
    def sites(self) -> tuple[tuple[ClientId, str], ...]:
        return tuple((client, client_queue(client, "abc")) for client in self.clients)

    def login(self, name: str, password: str | None = None) -> BrokerSettings:
        return BrokerSettings(url=SecretStr(self.amqp(name, password)))

    def amqp(self, name: str, password: str | None = None) -> str:
        return f"amqp://{name}:{password or f'{name}-secret'}@{self.broker}"

    def administrator(self) -> BrokerAdmin:
        rabbit = self.endpoints.rabbit
        return BrokerAdmin(rabbit.management_url, rabbit.user, rabbit.password, self.vhost, settle_s=0)

    def store(self) -> ObjectStoreSettings:
        s3 = self.endpoints.s3
        return ObjectStoreSettings(
            url=s3.url, access_key=s3.access_key, secret_key=SecretStr(s3.secret_key), bucket=s3.bucket
        )

    def scheduler(self, **changes: Any) -> SchedulerSettings:
        store = self.store()
        settings = SchedulerSettings(
            broker_url=SecretStr(self.amqp(Role.SCHEDULER)),
            database_url=SecretStr(self.database),
            s3_url=store.url,
            s3_access_key=store.access_key,
            s3_secret_key=store.secret_key,
            s3_bucket=store.bucket,
        )
        return settings.model_copy(update=changes)

    def aggregator(self, **changes: Any) -> AggregatorSettings:
        store = self.store()
        settings = AggregatorSettings(
            broker_url=SecretStr(self.amqp(Role.AGGREGATOR)),
            s3_url=store.url,
            s3_access_key=store.access_key,
            s3_secret_key=store.secret_key,
            s3_bucket=store.bucket,
        )
        return settings.model_copy(update=changes)


@contextmanager
def a_place(stack: Endpoints, clients: int = 5) -> Iterator[Place]:
    with a_database(stack) as database:
        names = tuple(sorted(ClientId(uuid4()) for _ in range(clients)))
        place = Place(stack, f"test-{uuid4().hex[:12]}", database, names)
        asyncio.run(_furnish(place))
        yield place
        asyncio.run(_clear(place))


async def _furnish(place: Place) -> None:
    MinioObjects(place.store()).make_bucket()
    async with place.administrator() as admin:
        await admin.declare(topology(place))
        for client, queue in place.sites:
            await admin.enrol_client(client, f"{client}-secret", queue)


async def _clear(place: Place) -> None:
    async with place.administrator() as admin:
        for client, queue in place.sites:
            await admin.revoke_client(client, queue)
        await admin.delete_vhost()


def topology(place: Place) -> dict[str, Any]:
    return definitions({role: hashed(f"{role}-secret") for role in SERVICES}, vhost=place.vhost)
