"""Signs of life."""

import asyncio
from collections.abc import Callable
from importlib.metadata import version

from agents.client.uplink import Uplink
from schemas.ids import ClientId, TaskId
from schemas.reports import Heartbeat

Tasks = tuple[TaskId, ...]

_MOST_TASKS = 1_000
_VERSION = version("warren")


def heartbeat(
    client: ClientId, in_hand: Tasks = (), waiting: Tasks = (), *, leaving: bool = False
) -> Heartbeat:
    return Heartbeat(
        client_id=client,
        tasks=in_hand[:_MOST_TASKS],
        waiting=waiting[:_MOST_TASKS],
        leaving=leaving,
        version=_VERSION,
    )


async def beat(uplink: Uplink, sign: Callable[[], Heartbeat], every_s: float) -> None:
    """One now, then one every so often, until cancelled."""
    while True:
        await uplink.beat(sign())
        await asyncio.sleep(every_s)
