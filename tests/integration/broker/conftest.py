"""A virtual host of its own for each test, with our topology and a ladder that waits milliseconds."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID, uuid4

import aiormq
import pytest
from pydantic import SecretStr

from infra.broker.admin import BrokerAdmin
from infra.broker.connection import Connection
from infra.broker.permissions import hashed
from infra.broker.publisher import Publisher
from infra.broker.settings import BrokerSettings
from infra.broker.topology import Definitions, client_queue, definitions
from infra.stack.record import Endpoints
from schemas.ids import ClientId
from schemas.routing import Role

ANA = ClientId(UUID(int=1))
BEN = ClientId(UUID(int=2))
SERVICES = (Role.API, Role.SCHEDULER, Role.AGGREGATOR)


@dataclass(frozen=True)
class Broker:
    """The virtual host of one test: its administrator, and everybody's way in."""

    admin: BrokerAdmin
    definitions: Definitions
    place: str
    administrator: str
    password: str

    def settings(self, login: str, password: str | None = None, **changes: float) -> BrokerSettings:
        secret = f"{login}-secret" if password is None else password
        return BrokerSettings(url=SecretStr(f"amqp://{login}:{secret}@{self.place}"), **changes)

    def connection(self, login: str) -> Connection:
        return Connection(self.settings(login), f"test {login}")

    async def channel_of(self, settings: BrokerSettings) -> tuple[Connection, aiormq.Channel]:
        connection = Connection(settings, "test raw")
        return connection, await connection.channel(confirms=True)


def quick(document: Definitions, wait_ms: int = 30) -> Definitions:
    for policy in document["policies"]:
        if policy["name"].startswith("retry."):
            policy["definition"]["message-ttl"] = wait_ms
    return document


@pytest.fixture
async def broker(stack: Endpoints) -> AsyncIterator[Broker]:
    rabbit = stack.rabbit
    vhost = f"test-{uuid4().hex[:12]}"
    document = quick(definitions({role: hashed(f"{role}-secret") for role in SERVICES}, vhost=vhost))
    async with BrokerAdmin(rabbit.management_url, rabbit.user, rabbit.password, vhost, settle_s=0) as admin:
        await admin.declare(document)
        yield Broker(admin, document, f"{rabbit.host}:{rabbit.port}/{vhost}", rabbit.user, rabbit.password)
        await admin.delete_vhost()


@pytest.fixture
async def admin_channel(broker: Broker, stack: Endpoints) -> AsyncIterator[aiormq.Channel]:
    settings = broker.settings(stack.rabbit.user, stack.rabbit.password)
    async with Connection(settings, "test administrator") as connection:
        yield await connection.channel()


@pytest.fixture
async def scheduler(broker: Broker) -> AsyncIterator[Publisher]:
    async with broker.connection("scheduler") as connection:
        yield Publisher(connection)


@pytest.fixture
async def ana(broker: Broker) -> AsyncIterator[Publisher]:
    """Publishes as an enrolled client."""
    await broker.admin.enrol_client(ANA, f"{ANA}-secret", ana_queue())
    async with broker.connection(str(ANA)) as connection:
        yield Publisher(connection)


def ana_queue() -> str:
    return client_queue(ANA, "abc")
