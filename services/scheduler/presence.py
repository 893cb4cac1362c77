"""Presence: which sites are there, as their heartbeats tell."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from sqlalchemy import bindparam, func, update
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.broker.consumer import Batch, Batches
from infra.database.tables import clients
from schemas.ids import ClientId, TaskId
from schemas.refusal import Refusal
from schemas.reports import Heartbeat
from services.scheduler.admission import heartbeat

log = logging.getLogger(__name__)


Renew = Callable[[ClientId, Sequence[TaskId]], Awaitable[None]]


class Presence(Protocol):
    async def seen(self, heartbeats: list[Heartbeat]) -> None: ...


class PostgresPresence:
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def seen(self, heartbeats: list[Heartbeat]) -> None:
        rows = [
            {
                "client": beat.client_id,
                "tasks_in_hand": len(beat.tasks),
                "leaving": beat.leaving,
                "version": beat.version,
            }
            for beat in heartbeats
        ]
        async with self._engine.begin() as connection:
            await connection.execute(_SEEN, rows)


async def watch(batches: Batches, presence: Presence, renew: Renew) -> None:
    """A background loop.  The newest heartbeat of each client counts."""
    async for batch in batches.batches():
        newest = {beat.client_id: beat for beat in await _admit(batches, batch)}
        if newest:
            await presence.seen(list(newest.values()))
        for beat in newest.values():
            if beat.waiting:
                await renew(beat.client_id, beat.waiting)


async def _admit(batches: Batches, batch: Batch) -> list[Heartbeat]:
    beats = []
    for delivery in batch:
        try:
            beats.append(heartbeat(delivery))
        except Refusal as refusal:
            log.warning("heartbeat was refused", extra={"sender": delivery.user_id, "why": str(refusal)})
            await batches.dead_letter(delivery, f"{refusal.code}: {refusal}")
        else:
            await batches.ack((delivery,))
    return beats


_SEEN = (
    update(clients)
    .where(clients.c.id == bindparam("client"))
    .values(
        seen_at=func.clock_timestamp(),
        tasks_in_hand=bindparam("tasks_in_hand"),
        leaving=bindparam("leaving"),
        version=bindparam("version"),
    )
)
