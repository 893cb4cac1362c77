"""Reads the event log of the broker."""

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

from pydantic import SecretStr

from infra.broker.connection import Connection
from infra.broker.event_log import Offset, read_events
from infra.broker.settings import BrokerSettings


async def read_stream(
    url: str, offset: Offset = "first", *, training: UUID | None = None, idle_s: float | None = None
) -> AsyncIterator[bytes]:
    """The bodies; with `training` only those about it."""
    async with Connection(BrokerSettings(url=SecretStr(url)), "operator reads events") as connection:
        async for _, body in read_events(connection, offset, idle_s=idle_s):
            if training is None or read(body).get("trainingid") == str(training):
                yield body


def read(body: bytes) -> dict[str, Any]:
    """What anybody can read of an event, whatever its version: a JSON object."""
    found = json.loads(body)
    return found if isinstance(found, dict) else {}
