"""Checks that the stored snapshots are the fold of the events: python -m services.scheduler.verify"""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from infra.database.engine import connect
from infra.database.tables import events, trainings
from schemas.envelope import Malformed, decode
from schemas.events import Event
from schemas.ids import TrainingId
from services.scheduler.evolve import fold
from services.scheduler.state import to_snapshot


class Settings(BaseSettings):
    """The one setting of the scheduler's that this needs: `WARREN_SCHEDULER_DATABASE_URL`."""

    model_config = SettingsConfigDict(frozen=True, env_prefix="WARREN_SCHEDULER_", extra="ignore")

    database_url: SecretStr


class Verdict(BaseModel):
    model_config = ConfigDict(frozen=True)

    training: TrainingId
    events: int
    fault: str | None


def main() -> None:
    """A line of JSON per training; exit 1 if one of them has a fault."""
    sys.exit(asyncio.run(_verify(Settings().database_url.get_secret_value())))


async def verdicts(database_url: str) -> AsyncIterator[Verdict]:
    """Of one moment: what is written meanwhile is not seen."""
    engine = connect(database_url, pool_size=1)
    try:
        async with engine.connect() as connection:
            await connection.execution_options(isolation_level="REPEATABLE READ")
            for row in (await connection.execute(_TRAININGS)).all():
                yield await _verdict(connection, row)
    finally:
        await engine.dispose()


def fault_of(
    numbered: Sequence[tuple[int, bytes]], seq: int, snapshot: bytes | None, upto: int
) -> str | None:
    """What is wrong with a training of which `seq` events and the snapshot of the first `upto` are kept."""
    if [number for number, _ in numbered] != list(range(1, seq + 1)):
        return f"its events are not numbered from 1 to {seq} without a gap"
    try:
        decoded = [decode(envelope, Event) for _, envelope in numbered]
    except Malformed as error:
        return f"an event cannot be read: {error}"
    if any(envelope.sequence != number for (number, _), envelope in zip(numbered, decoded, strict=True)):
        return "an event says another number than its row"
    folded = fold(None, (envelope.data for envelope in decoded[:upto]))
    if (folded and to_snapshot(folded)) != snapshot:
        return f"its snapshot is not the fold of its first {upto} events"
    return None


async def _verdict(connection: AsyncConnection, row: Any) -> Verdict:
    found = await connection.execute(_EVENTS.where(events.c.training_id == row.id))
    numbered = [(event.seq, event.envelope) for event in found]
    fault = fault_of(numbered, row.seq, row.snapshot, row.snapshot_seq)
    return Verdict(training=row.id, events=len(numbered), fault=fault)


async def _verify(database_url: str) -> int:
    faulty = False
    async for verdict in verdicts(database_url):
        sys.stdout.write(verdict.model_dump_json() + "\n")
        faulty = faulty or verdict.fault is not None
    return 1 if faulty else 0


_TRAININGS = select(trainings.c.id, trainings.c.seq, trainings.c.snapshot, trainings.c.snapshot_seq).order_by(
    trainings.c.id
)
_EVENTS = select(events.c.seq, events.c.envelope).order_by(events.c.seq)


if __name__ == "__main__":
    main()
