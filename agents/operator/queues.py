"""Asks the broker itself who consumes: its management learns of that seconds later."""

import asyncio
import time
from collections.abc import Callable, Mapping

from pydantic import SecretStr

from infra.broker.connection import Connection, guarded
from infra.broker.errors import BrokerUnavailable
from infra.broker.settings import BrokerSettings
from infra.broker.topology import Queue, scheduler_queues

_POLL_S = 0.1


async def until_consumed(url: str, workers: int, require_alive: Callable[[], None], timeout_s: float) -> None:
    """Wait until the scheduler and so many aggregator workers take messages.  `require_alive` may give up."""
    wanted = {**dict.fromkeys(scheduler_queues(), 1), Queue.PRESENCE: 1, Queue.AGGREGATOR: workers}
    deadline = time.monotonic() + timeout_s
    async with Connection(BrokerSettings(url=SecretStr(url)), "operator") as connection:
        while idle := await _lacking(connection, wanted):
            require_alive()
            if time.monotonic() > deadline:
                raise BrokerUnavailable(connection.settings.place, f"nobody consumes {', '.join(idle)}")
            await asyncio.sleep(_POLL_S)


async def _lacking(connection: Connection, wanted: Mapping[str, int]) -> list[str]:
    channel = await connection.channel()
    try:
        with guarded():
            found = {name: await channel.queue_declare(name, passive=True) for name in wanted}
    finally:
        await channel.close()
    return [name for name, count in wanted.items() if (found[name].consumer_count or 0) < count]
