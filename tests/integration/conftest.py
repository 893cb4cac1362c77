"""What the tests of whole services share."""

from collections.abc import AsyncIterator, Iterator

import pytest

from infra.stack.record import Endpoints
from tests.scene import Place, Scene, a_place, a_scene


@pytest.fixture(scope="session")
def place(stack: Endpoints) -> Iterator[Place]:
    with a_place(stack) as found:
        yield found


@pytest.fixture
async def scene(place: Place) -> AsyncIterator[Scene]:
    async with a_scene(place) as found:
        yield found
