from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from infra.broker.connection import Connection
from infra.broker.publisher import Publisher
from infra.objects.minio_objects import MinioObjects
from infra.objects.tickets import TicketOffice
from infra.stack.record import Endpoints
from schemas.ids import ClientId
from tests.integration.client.platform import Platform
from tests.integration.client.site import Agent
from tests.place import Place, topology

MakeAgent = Callable[..., Agent]


@pytest.fixture
async def platform(stack: Endpoints) -> AsyncIterator[Platform]:
    """A virtual host of its own, one enrolled client, somebody who speaks for the scheduler."""
    place = Place(stack, f"test-{uuid4().hex[:12]}", database="", clients=(ClientId(uuid4()),))
    rabbit, ((client, queue),) = stack.rabbit, place.sites
    objects, tickets = MinioObjects(place.store()), TicketOffice(place.store())
    objects.make_bucket()
    async with (
        place.administrator() as admin,
        Connection(place.login("scheduler"), "test scheduler") as scheduler,
        Connection(place.login(rabbit.user, rabbit.password), "test ear") as ear,
    ):
        await admin.declare(topology(place))
        await admin.enrol_client(client, f"{client}-secret", queue)
        platform = Platform(admin, Publisher(scheduler), objects, tickets, client, queue, place.broker)
        await platform.listen(await ear.channel())
        yield platform
        await admin.delete_vhost()


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
