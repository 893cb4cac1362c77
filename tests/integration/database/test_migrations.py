"""Migrations on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from alembic.util import CommandError
from sqlalchemy import text

from infra.database.engine import connect
from infra.database.migrate import check, upgrade
from infra.stack.record import Endpoints

pytestmark = pytest.mark.integration


@pytest.fixture
async def empty(stack: Endpoints) -> AsyncIterator[str]:
    name = f"test_{uuid4().hex[:12]}"
    await _run(stack.postgres.url, f"CREATE DATABASE {name}")
    yield stack.postgres.url_of(name)
    await _run(stack.postgres.url, f"DROP DATABASE {name} WITH (FORCE)")


async def test_migrations_make_what_the_tables_say(empty: str) -> None:
    await upgrade(empty)
    await check(empty)


async def test_a_database_that_differs_from_the_tables_is_noticed(empty: str) -> None:
    await upgrade(empty)
    await _run(empty, "ALTER TABLE users DROP COLUMN email")
    with pytest.raises(CommandError, match="email"):
        await check(empty)


async def test_upgrades_at_once_wait_for_each_other(empty: str) -> None:
    await asyncio.gather(*(upgrade(empty) for _ in range(4)))
    await check(empty)


async def _run(url: str, statement: str) -> None:
    engine = connect(url, pool_size=1)
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(text(statement))
    await engine.dispose()
