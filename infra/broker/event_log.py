"""Reading the stream that keeps every event.  It is a copy: the event table is the truth."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Literal

from infra.broker.connection import Connection, guarded
from infra.broker.consumer import Intake
from infra.broker.topology import Queue

Offset = int | datetime | Literal["first", "last", "next"]

_PREFETCH = 500


async def read_events(
    connection: Connection, offset: Offset = "first", *, idle_s: float | None = None
) -> AsyncIterator[tuple[int, bytes]]:
    """Offset and body of each event from `offset` on.  Ends when none came for `idle_s`; without it, never.

    The broker starts at a chunk's begin: given a time, some events may be a little older.
    """
    channel = await connection.channel()
    try:
        with guarded():
            await channel.basic_qos(prefetch_count=_PREFETCH)
        intake = Intake(channel, connection.settings.login)
        await intake.consume(Queue.EVENT_LOG, {"x-stream-offset": offset})
        batches = intake.batches(_PREFETCH)
        while True:
            try:
                batch = await asyncio.wait_for(anext(batches), idle_s)
            except TimeoutError:
                return
            for delivery in batch:
                yield int(delivery.headers["x-stream-offset"]), delivery.body
            await intake.ack(batch)
    finally:
        await channel.close()
