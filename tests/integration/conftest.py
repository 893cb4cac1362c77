"""What the tests of whole services share."""

from collections.abc import AsyncIterator, Iterator

import pytest

from infra.stack.record import Endpoints
from tests.place import Place, a_place
from tests.scene import Scene, a_scene


@pytest.fixture(scope="session")
def place(stack: Endpoints) -> Iterator[Place]:
    with a_place(stack) as found:
        yield found


@pytest.fixture
async def scene(place: Place) -> AsyncIterator[Scene]:
    async with a_scene(place) as found:
        yield found
