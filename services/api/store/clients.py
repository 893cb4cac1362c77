"""Enrolled sites and their presence."""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Select, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from infra.database.tables import clients, users
from schemas.ids import ClientId
from services.api.authorisation import Kind
from services.api.errors import NotFound
from services.api.store.rows import Found, many, one


async def enrol(tx: AsyncConnection, id_: ClientId, queue: str) -> None:
    await tx.execute(insert(clients).values(id=id_, queue=queue))


async def take_turn(tx: AsyncConnection, id_: UUID) -> None:
    """Whoever changes what the broker knows of this client waits for the others; its heartbeats do not."""
    await tx.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(str(id_), 0))))


async def get(tx: AsyncConnection, id_: UUID) -> Found:
    row = await one(tx, _clients().where(clients.c.id == id_))
    if row is None:
        raise NotFound(Kind.CLIENT, id_)
    return row


async def every(tx: AsyncConnection) -> Sequence[Found]:
    return await many(tx, _clients().order_by(users.c.username))


async def not_enrolled(tx: AsyncConnection, ids: Iterable[ClientId]) -> frozenset[ClientId]:
    """Those of `ids` that no enrolled, unrevoked client has."""
    asked = frozenset(ids)
    statement = select(clients.c.id).where(clients.c.id.in_(asked), clients.c.revoked_at.is_(None))
    return asked - frozenset((await tx.execute(statement)).scalars())


async def revoke(tx: AsyncConnection, id_: UUID) -> None:
    await tx.execute(update(clients).where(clients.c.id == id_).values(revoked_at=func.now()))


def _clients() -> Select[Any]:
    return select(clients, users.c.username).join(users, users.c.id == clients.c.id)
