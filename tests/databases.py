"""Databases of the tests' own, and rows that a training needs before it can start."""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from uuid import uuid4

from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.database.engine import connect
from infra.database.migrate import upgrade
from infra.database.tables import clients, metadata, model_versions, models, participants, trainings, users
from infra.stack.record import Endpoints
from schemas.commands import StartTraining
from schemas.ids import ClientId


@contextmanager
def a_database(stack: Endpoints) -> Iterator[str]:
    """The URL of a new database with all tables, dropped at the end."""
    name = f"test_{uuid4().hex[:12]}"
    asyncio.run(_administer(stack, f"CREATE DATABASE {name}"))
    try:
        asyncio.run(upgrade(stack.postgres.url_of(name)))
        yield stack.postgres.url_of(name)
    finally:
        asyncio.run(_administer(stack, f"DROP DATABASE {name} WITH (FORCE)"))


async def empty(engine: AsyncEngine) -> None:
    """Leave the tables, take all rows."""
    names = ", ".join(table.name for table in metadata.sorted_tables)
    async with engine.begin() as connection:
        await connection.execute(text(f"TRUNCATE {names} RESTART IDENTITY CASCADE"))


async def enrol(engine: AsyncEngine, sites: Iterable[tuple[ClientId, str]]) -> None:
    """Clients with their queues."""
    rows = list(sites)
    async with engine.begin() as connection:
        for client, _ in rows:
            await connection.execute(insert(users).values(id=client, username=str(client), password_hash="x"))
        await connection.execute(insert(clients), [{"id": client, "queue": queue} for client, queue in rows])


async def create(engine: AsyncEngine, start: StartTraining) -> None:
    """What REST leaves behind of a training whose start was requested.  Its clients are enrolled."""
    owner, model = uuid4(), start.model
    training = {
        "id": start.training_id,
        "owner_id": owner,
        "model_id": model.model_id,
        "plan": start.plan.model_dump(mode="json"),
    }
    async with engine.begin() as connection:
        await connection.execute(insert(users).values(id=owner, username=str(owner), password_hash="x"))
        await connection.execute(
            insert(models).values(id=model.model_id, owner_id=owner, name="m", description="")
        )
        await connection.execute(insert(model_versions).values(**model.model_dump()))
        await connection.execute(insert(trainings).values(**training))
        rows = [{"training_id": start.training_id, "client_id": client} for client in start.participants]
        await connection.execute(insert(participants), rows)


async def _administer(stack: Endpoints, statement: str) -> None:
    engine = connect(stack.postgres.url, pool_size=1)
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(text(statement))
    await engine.dispose()
