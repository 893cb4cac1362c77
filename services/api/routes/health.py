"""Whether the API lives, and whether what it needs answers."""

import asyncio
import logging
from collections.abc import Awaitable
from contextlib import suppress
from http import HTTPStatus

from fastapi import APIRouter, Response
from sqlalchemy import text

from infra.objects.errors import ObjectMissing
from services.api.answers import Health
from services.api.dependencies import PartsDep
from services.api.parts import Parts

log = logging.getLogger(__name__)
router = APIRouter(prefix="/health", tags=["health"])


@router.get("/live")
async def live() -> Health:
    return Health(status="ok")


@router.get("/ready", responses={503: {"model": Health}})
async def ready(parts: PartsDep, response: Response) -> Health:
    probes = {
        "database": _database(parts),
        "object store": _objects(parts),
        "broker": parts.broker.depths(),
    }
    within = parts.settings.probe_timeout_s
    found = await asyncio.gather(*(_answers(name, probe, within) for name, probe in probes.items()))
    missing = [name for name, answers in zip(probes, found, strict=True) if not answers]
    if missing:
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    return Health(status="unavailable" if missing else "ok", missing=missing)


async def _database(parts: Parts) -> None:
    async with parts.reading() as connection:
        await connection.execute(text("SELECT 1"))


async def _answers(name: str, probe: Awaitable[object], within: float) -> bool:
    try:
        await asyncio.wait_for(probe, within)
    except Exception as error:  # whatever it is: that part cannot be used now
        log.warning("part not ready", extra={"part": name, "why": repr(error)})
        return False
    return True


async def _objects(parts: Parts) -> None:
    with suppress(ObjectMissing):
        await asyncio.to_thread(parts.files.stat, "health")
