from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import SecretStr

from infra.broker.admin import BrokerAdmin
from infra.broker.connection import Connection
from infra.broker.permissions import hashed
from infra.broker.publisher import Publisher
from infra.broker.settings import BrokerSettings
from infra.broker.topology import client_queue, definitions
from infra.objects.minio_objects import MinioObjects
from infra.objects.settings import ObjectStoreSettings
from infra.objects.tickets import TicketOffice
from infra.stack.record import Endpoints
from schemas.ids import ClientId
from schemas.routing import Role
from tests.integration.client.platform import Platform
from tests.integration.client.site import Agent

MakeAgent = Callable[..., Agent]


@pytest.fixture
async def platform(stack: Endpoints) -> AsyncIterator[Platform]:
    """A virtual host of its own, one enrolled client, somebody who speaks for the scheduler."""
    rabbit, vhost, client = stack.rabbit, f"test-{uuid4().hex[:12]}", ClientId(uuid4())
    place, queue = f"{rabbit.host}:{rabbit.port}/{vhost}", client_queue(client, "abc")
    passwords = {role: hashed(f"{role}-secret") for role in (Role.API, Role.SCHEDULER, Role.AGGREGATOR)}
    store = ObjectStoreSettings(
        url=stack.s3.url,
        access_key=stack.s3.access_key,
        secret_key=SecretStr(stack.s3.secret_key),
        bucket=stack.s3.bucket,
    )
    objects = MinioObjects(store)
    objects.make_bucket()
    async with (
        BrokerAdmin(rabbit.management_url, rabbit.user, rabbit.password, vhost, settle_s=0) as admin,
        Connection(_login("scheduler", "scheduler-secret", place), "test scheduler") as scheduler,
        Connection(_login(rabbit.user, rabbit.password, place), "test ear") as ear,
    ):
        await admin.declare(definitions(passwords, vhost=vhost))
        await admin.enrol_client(client, f"{client}-secret", queue)
        platform = Platform(admin, Publisher(scheduler), objects, TicketOffice(store), client, queue, place)
        await platform.listen(await ear.channel())
        yield platform
        await admin.delete_vhost()


def _login(name: str, password: str, place: str) -> BrokerSettings:
    return BrokerSettings(url=SecretStr(f"amqp://{name}:{password}@{place}"))


@pytest.fixture
def make_agent(tmp_path: Path) -> Iterator[MakeAgent]:
    made: list[Agent] = []

    def make(credentials: Path, *options: str) -> Agent:
        made.append(Agent(tmp_path, credentials, *options))
        return made[-1]

    yield make
    for agent in made:
        agent.kill()


@pytest.fixture
def agent(platform: Platform, tmp_path: Path, make_agent: MakeAgent) -> Agent:
    """Not started yet."""
    return make_agent(platform.credentials(tmp_path))
