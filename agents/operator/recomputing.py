"""Has the versions of a training recomputed, by a worker's own code in another process."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

from agents.operator import place
from agents.operator.errors import CommandFailed, NotThere
from agents.operator.event_table import read_table
from agents.operator.settings import clean_environment, rules_environment

_COMMAND = (sys.executable, "-m", "services.aggregator.verify")


def recomputed(training: UUID, root: Path) -> list[dict[str, Any]]:
    """A verdict per version: its number, the round that made it, its sha256 and what is wrong with it."""
    events = asyncio.run(_events(place.database_url(root), training))
    if not events:
        raise NotThere("started training", str(training))
    env = {**clean_environment(), **rules_environment(), **place.worker_environment(root)}
    done = subprocess.run(_COMMAND, env=env, input=events, capture_output=True, check=False)  # noqa: S603 -- ours
    if done.returncode not in {0, 1} or done.stderr:
        told = done.stderr.decode(errors="replace").strip()
        raise CommandFailed(f"the training could not be recomputed: {told[-1_000:]}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def verdict_line(verdict: dict[str, Any]) -> str:
    made = "uploaded" if verdict["round"] is None else f"round {verdict['round'] + 1}"
    said = "; ".join(verdict["faults"]) or "ok"
    return f"version {verdict['version']:<4} {made:<10} {verdict['sha256'][:12]}  {said}"


async def _events(url: str, training: UUID) -> bytes:
    return b"".join([row.envelope + b"\n" async for row in read_table(url, training)])
