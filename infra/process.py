"""Runs a service as a process: event loop, logs, and signals that ask it to stop."""

import asyncio
import signal
from collections.abc import Awaitable, Callable

import uvloop

from infra.logs import configure


def run_until_stopped(service: Callable[[asyncio.Event], Awaitable[None]], log_level: str = "INFO") -> None:
    """Run `service`; SIGTERM and SIGINT set the event it is given, and it is expected to end soon."""
    configure(log_level)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(service))


async def _serve(service: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    stop = asyncio.Event()
    for asked in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(asked, stop.set)
    await service(stop)
