"""Runs a service as a process: event loop, logs, and signals that ask it to stop."""

import asyncio
import gc
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import uvloop
from pydantic import ValidationError
from pydantic_settings import BaseSettings

from infra.logs import configure
from schemas.refusal import Refusal

S = TypeVar("S", bound=BaseSettings)


def settings_from_environment(kind: type[S]) -> S:
    """The settings, or one line on standard error that names what is missing or wrong, and exit code 1."""
    try:
        return kind()
    except ValidationError as error:
        prefix = kind.model_config.get("env_prefix", "")
        faults = (
            f"{prefix}{'_'.join(map(str, fault['loc'])).upper()}: {fault['msg']}"
            for fault in error.errors(include_input=False, include_url=False)
        )
        sys.exit(f"these settings do not work: {'; '.join(faults)}")


@contextmanager
def explained(variable: str) -> Iterator[None]:
    """What is refused in here is the fault of this environment variable, and said in one line."""
    try:
        yield
    except Refusal as refusal:
        sys.exit(f"these settings do not work: {variable}: {refusal}")


def run_until_stopped(service: Callable[[asyncio.Event], Awaitable[None]], log_level: str = "INFO") -> None:
    """Run `service`; SIGTERM and SIGINT set the event it is given, and it is expected to end soon."""
    configure(log_level)
    gc.freeze()  # what has been imported stays: the collector need not look at it again
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(service))


async def _serve(service: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    stop = asyncio.Event()
    for asked in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(asked, stop.set)
    await service(stop)
