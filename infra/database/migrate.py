"""Brings a database to the newest schema."""

from collections.abc import Callable
from io import StringIO
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

from infra.database.engine import connect

_PLACE = Path(__file__).parent / "migrations"
_LOCK = 7_236_402_119  # an advisory lock: whoever upgrades holds it


async def upgrade(url: str) -> None:
    """Apply what is missing, all or nothing.  Upgrades of one database wait for each other."""
    await _run(url, lambda config: command.upgrade(config, "head"))


async def check(url: str) -> None:
    """Raise `alembic.util.CommandError` where the database is not what `tables.py` says."""
    await _run(url, command.check)


async def draft(url: str, message: str) -> None:
    """Write the next revision: what `tables.py` has and the database lacks.  Read it before you keep it."""
    await _run(url, lambda config: command.revision(config, message, autogenerate=True))


async def _run(url: str, step: Callable[[Config], object]) -> None:
    engine = connect(url, pool_size=1)
    try:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            await connection.run_sync(lambda sync: step(_config(sync)))
    finally:
        await engine.dispose()


def _config(connection: Connection) -> Config:
    config = Config(stdout=StringIO(), attributes={"connection": connection})
    config.set_main_option("script_location", str(_PLACE).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
