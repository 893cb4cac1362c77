"""Reads the event table: the truth of which the stream is a copy."""

from collections.abc import AsyncIterator
from typing import NamedTuple
from uuid import UUID


class Row(NamedTuple):
    training: UUID
    seq: int
    envelope: bytes  # the very bytes that were published


async def read_table(url: str, training: UUID | None = None) -> AsyncIterator[Row]:
    """Training by training, in the order in which things happened; of one moment."""
    from sqlalchemy import select  # noqa: PLC0415 - a site without a database has no SQLAlchemy

    from infra.database.engine import connect  # noqa: PLC0415 -- as said above
    from infra.database.tables import events  # noqa: PLC0415 -- as said above

    statement = select(events.c.training_id, events.c.seq, events.c.envelope).order_by(
        events.c.training_id, events.c.seq
    )
    if training:
        statement = statement.where(events.c.training_id == training)
    engine = connect(url, pool_size=1)
    try:
        async with engine.connect() as connection, connection.stream(statement) as found:
            async for row in found:
                yield Row(*row)
    finally:
        await engine.dispose()
