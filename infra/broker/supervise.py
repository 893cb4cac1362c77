"""Keeping a background loop alive."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import NoReturn

from infra.broker.backoff import jittered
from infra.broker.errors import BrokerFault
from schemas.refusal import Refusal

log = logging.getLogger(__name__)

_STEADY_S = 60.0


async def supervise(name: str, loop: Callable[[], Awaitable[None]]) -> NoReturn:
    """Run the loop again whenever it ends or raises, after growing waits.  Ends by cancellation."""
    waits = jittered()
    while True:
        started = time.monotonic()
        try:
            await loop()
            log.warning("background loop ended", extra={"loop": name})
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            log.warning("background loop was cancelled from within", extra={"loop": name})
        except (Refusal, BrokerFault) as error:
            log.warning("background loop failed", extra={"loop": name, "why": str(error)})
        except Exception:  # whatever it was, the loop must go on
            log.exception("background loop failed", extra={"loop": name})
        if time.monotonic() - started > _STEADY_S:
            waits = jittered()
        await asyncio.sleep(next(waits))
