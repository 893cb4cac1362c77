"""Rows, as statements find them."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Executable, Row
from sqlalchemy.ext.asyncio import AsyncConnection

Found = Row[Any]


async def one(tx: AsyncConnection, statement: Executable) -> Found | None:
    row: Found | None = (await tx.execute(statement)).one_or_none()
    return row


async def many(tx: AsyncConnection, statement: Executable) -> Sequence[Found]:
    rows: Sequence[Found] = (await tx.execute(statement)).all()
    return rows
