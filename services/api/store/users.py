"""Users and their tokens."""

from collections.abc import Sequence
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import Select, delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from infra.database.tables import tokens, users
from schemas.ids import UserId
from services.api.authorisation import Kind
from services.api.errors import Conflict, NotFound
from services.api.store.rows import Found, many, one

_PUBLIC = tuple(column for column in users.c if column is not users.c.password_hash)


class NameTaken(Conflict):
    code: ClassVar[str] = "name_taken"

    def __init__(self, username: str) -> None:
        super().__init__(f"there is already a user {username!r}, or one with the id you chose")


async def add(tx: AsyncConnection, **values: Any) -> Found:
    statement = upsert(users).values(**values).on_conflict_do_nothing().returning(*_PUBLIC)
    row = await one(tx, statement)
    if row is None:
        raise NameTaken(values["username"])
    return row


async def ensure_admin(tx: AsyncConnection, id_: UserId, username: str, password_hash: str) -> None:
    """The administrator exists and has this password; the rights of whoever had the name are his."""
    values = {"password_hash": password_hash, "admin": True, "revoked_at": None}
    statement = upsert(users).values(id=id_, username=username, **values)
    await tx.execute(statement.on_conflict_do_update(index_elements=[users.c.username], set_=values))


async def get(tx: AsyncConnection, id_: UUID) -> Found:
    row = await one(tx, select(*_PUBLIC).where(users.c.id == id_))
    if row is None:
        raise NotFound(Kind.USER, id_)
    return row


async def every(tx: AsyncConnection) -> Sequence[Found]:
    statement = select(*_PUBLIC).where(users.c.revoked_at.is_(None)).order_by(users.c.username)
    return await many(tx, statement)


async def by_username(tx: AsyncConnection, username: str) -> Found | None:
    return await one(tx, _active().where(users.c.username == username))


async def by_token(tx: AsyncConnection, digest: str) -> Found | None:
    statement = _active().join(tokens, tokens.c.user_id == users.c.id).where(tokens.c.digest == digest)
    return await one(tx, statement)


async def replace_token(tx: AsyncConnection, user_id: UUID, digest: str) -> None:
    """Earlier tokens are void: of two who ask at once, the later one's counts."""
    await tx.execute(select(users.c.id).where(users.c.id == user_id).with_for_update())
    await tx.execute(delete(tokens).where(tokens.c.user_id == user_id))
    await tx.execute(insert(tokens).values(digest=digest, user_id=user_id))


async def set_password(tx: AsyncConnection, user_id: UUID, password_hash: str) -> None:
    await tx.execute(update(users).where(users.c.id == user_id).values(password_hash=password_hash))


async def revoke(tx: AsyncConnection, user_id: UUID) -> None:
    """What the user owns stays; nobody gets in under this name any more."""
    await tx.execute(update(users).where(users.c.id == user_id).values(revoked_at=func.now()))
    await tx.execute(delete(tokens).where(tokens.c.user_id == user_id))


def _active() -> Select[Any]:
    return select(users).where(users.c.revoked_at.is_(None))
