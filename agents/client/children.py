"""Child processes: in a process group of their own, dying with the agent, never left behind."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

_TETHER = Path(__file__).with_name("tether.py")
_LONGEST_ANSWER = 2**20


async def start(
    command: Sequence[str], *, env: Mapping[str, str], cwd: Path, output: IO[bytes] | None = None
) -> Process:
    """With `output`, everything it says goes there; without, its standard input and output are pipes."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", str(_TETHER), str(os.getpid()), *command),
        stdin=DEVNULL if output else PIPE,
        stdout=output or PIPE,
        stderr=STDOUT if output else None,
        env=env,
        cwd=cwd,
        start_new_session=True,
        limit=_LONGEST_ANSWER,
    )


async def end(group: int, ended: Awaitable[object], patience_s: float) -> None:
    """Ask every process of the group to end, kill what does not; returns when `ended` does."""
    _signal(group, signal.SIGTERM)
    waiting = asyncio.ensure_future(ended)
    await asyncio.wait({waiting}, timeout=patience_s)
    _signal(group, signal.SIGKILL)
    await waiting


def sweep(group: int) -> None:
    """Kill what the leader of the group has left behind."""
    _signal(group, signal.SIGKILL)


class Helper:
    """A child that answers one line of JSON with one or more others."""

    def __init__(self, process: Process) -> None:
        self._process = process

    @property
    def has_ended(self) -> bool:
        return self._process.returncode is not None

    async def tell(self, **words: object) -> None:
        """Telling one that has ended says nothing: there will be no answer."""
        assert self._process.stdin is not None
        with suppress(ConnectionError):
            self._process.stdin.write(json.dumps(words).encode() + b"\n")
            await self._process.stdin.drain()

    async def answer(self) -> dict[str, int] | None:
        """The next line; None once it has ended."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line.endswith(b"\n"):
            return None
        words: dict[str, int] = json.loads(line)
        return words

    async def code(self) -> int:
        """How it ended."""
        return await self._process.wait()

    async def end(self, patience_s: float) -> None:
        await end(self._process.pid, self._process.wait(), patience_s)


def _signal(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
