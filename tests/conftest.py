"""What every test may ask for."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.stack.record import Endpoints, Record
from infra.stack.stack import Stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoints]:
    """Real servers, one set for the whole run; those of `WARREN_TEST_STACK` (a stack.json) if that is set."""
    running = os.environ.get("WARREN_TEST_STACK")
    if running:
        yield Record.read(Path(running)).endpoints
        return
    with Stack.start(tmp_path_factory.mktemp("stack")) as started:
        yield started.endpoints
