"""`warren events`: what happened, from the broker's stream or from the table."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, BinaryIO
from uuid import UUID

import typer

from agents.operator import place
from agents.operator.console import say, say_encoded, tell
from agents.operator.copies import Comparison
from agents.operator.errors import CommandFailed
from agents.operator.event_table import read_table
from agents.operator.options import DIR, AsJson, Dir
from agents.operator.settings import clean_environment
from agents.operator.stream import read, read_stream

group = typer.Typer(name="events", help="What happened: follow it, keep it, check it.")

Training = Annotated[UUID | None, typer.Option("--training", help="only what is about this one")]
_IDLE_S = 1.5  # a stream that gives nothing for so long has been read to its end


class Source(StrEnum):
    TABLE = "table"
    STREAM = "stream"


class Start(StrEnum):
    FIRST = "first"
    NEXT = "next"


@group.command()
def tail(
    root: Dir = DIR,
    training: Training = None,
    start: Annotated[
        Start, typer.Option("--from", help="the first there is, or the next to come")
    ] = Start.NEXT,
    follow: Annotated[bool, typer.Option(help="go on when there are no more")] = True,
    as_json: AsJson = False,
) -> None:
    """Show events as they come, until Ctrl-C."""
    bodies = read_stream(
        place.broker_url(root), start.value, training=training, idle_s=None if follow else _IDLE_S
    )
    asyncio.run(_show(bodies, as_json=as_json))


@group.command()
def export(
    root: Dir = DIR,
    training: Training = None,
    source: Annotated[Source, typer.Option("--from", help="the table is the truth, the stream its copy")] = (
        Source.TABLE
    ),
    out_file: Annotated[Path | None, typer.Option("--out", help="a file; else standard output")] = None,
    as_json: AsJson = False,
) -> None:
    """Write events as JSON lines, exactly as they were published."""
    if source is Source.TABLE:
        bodies = _table_bodies(place.database_url(root), training)
    else:
        bodies = read_stream(place.broker_url(root), training=training, idle_s=_IDLE_S)
    if out_file is None:
        asyncio.run(_write(bodies, sys.stdout.buffer))
        return
    with out_file.open("wb") as lines:
        count = asyncio.run(_write(bodies, lines))
    tell({"events": count, "file": out_file}, f"{count} events are in {out_file}", as_json=as_json)


@group.command()
def verify(root: Dir = DIR, as_json: AsJson = False) -> None:
    """Check: numbers dense, the stream a copy of the table, snapshots the fold of events."""
    database = place.database_url(root)
    comparison = asyncio.run(_compare(database, place.broker_url(root)))
    verdicts = _verdicts(database)
    folded = (f"training {each['training']}: {each['fault']}" for each in verdicts if each["fault"])
    faults = [*folded, *comparison.faults]
    counts = {"trainings": len(verdicts), "events": len(comparison.table), "repeats": comparison.repeats}
    text = "\n".join(faults) or "all is well: {trainings} trainings, {events} events".format(**counts)
    tell({**counts, "faults": faults}, text, as_json=as_json)
    raise typer.Exit(1 if faults else 0)


async def _show(bodies: AsyncIterator[bytes], *, as_json: bool) -> None:
    async for body in bodies:
        if as_json:
            say_encoded(body)
        else:
            say(_line(read(body)))


def _line(event: dict[str, Any]) -> str:
    data = event.get("data", {})
    shown = {name: data[name] for name in ("round", "client_id", "reason", "metrics") if name in data}
    about = " ".join(f"{name}={json.dumps(value)}" for name, value in shown.items())
    at = datetime.fromisoformat(event["time"])
    return f"{at:%H:%M:%S.%f} {event['trainingid']} {event['sequence']:>5} {event['type']} {about}".rstrip()


async def _table_bodies(url: str, training: UUID | None) -> AsyncIterator[bytes]:
    async for row in read_table(url, training):
        yield row.envelope


async def _write(bodies: AsyncIterator[bytes], lines: BinaryIO) -> int:
    count = 0
    async for body in bodies:
        lines.write(body + b"\n")
        count += 1
    return count


async def _compare(database: str, broker: str) -> Comparison:
    """The table first: what is in it may still be on its way to the stream, but not for long."""
    table = {(row.training, row.seq): row.envelope async for row in read_table(database)}
    comparison = Comparison(table)
    async for body in read_stream(broker, idle_s=_IDLE_S):
        comparison.look_at(body)
    return comparison


def _verdicts(database: str) -> list[dict[str, Any]]:
    """Another process folds them: that is the scheduler's own code, and no part of this command."""
    command = (sys.executable, "-m", "services.scheduler.verify")
    env = {**clean_environment(), "WARREN_SCHEDULER_DATABASE_URL": database}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)  # noqa: S603 -- ours
    if done.returncode not in {0, 1} or done.stderr:
        raise CommandFailed(f"events could not be folded: {done.stderr.strip()[-1_000:]}")
    return [json.loads(line) for line in done.stdout.splitlines()]
