"""Mends the broker's topology: what is missing is declared again, from the table and from PostgreSQL."""

import asyncio
import logging

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.broker.admin import BrokerAdmin
from infra.broker.topology import definitions
from infra.database.tables import clients

log = logging.getLogger(__name__)


class Mender:
    """A queue that is lost costs time only: what was in it is published again by the relay."""

    def __init__(self, engine: AsyncEngine, admin: BrokerAdmin) -> None:
        self._engine = engine
        self._admin = admin
        self._topology = definitions({}, vhost=admin.vhost)

    async def watch(self, every_s: float) -> None:
        """A background loop."""
        while True:
            await self.mend()
            await asyncio.sleep(every_s)

    async def mend(self) -> None:
        if found := await self._admin.check(self._topology):
            log.warning("topology was mended", extra={"found": list(found)[:20]})
            await self._admin.declare(self._topology)
        async with self._engine.connect() as connection:
            rows = (await connection.execute(_ENROLLED)).all()
        for client in await self._admin.ensure_client_queues({row.id: row.queue for row in rows}):
            log.warning("client queue was mended", extra={"client": str(client)})


_ENROLLED = select(clients.c.id, clients.c.queue).where(clients.c.revoked_at.is_(None))
