"""Signs of life."""

import asyncio
from collections.abc import Callable
from importlib.metadata import version

from agents.client.uplink import Uplink
from schemas.ids import ClientId, TaskId
from schemas.reports import Heartbeat

_MOST_TASKS = 1_000
_VERSION = version("warren")


def heartbeat(client: ClientId, in_hand: tuple[TaskId, ...], *, leaving: bool = False) -> Heartbeat:
    return Heartbeat(client_id=client, tasks=in_hand[:_MOST_TASKS], leaving=leaving, version=_VERSION)


async def beat(
    uplink: Uplink, client: ClientId, in_hand: Callable[[], tuple[TaskId, ...]], every_s: float
) -> None:
    """One now, then one every so often, until cancelled."""
    while True:
        await uplink.beat(heartbeat(client, in_hand()))
        await asyncio.sleep(every_s)
