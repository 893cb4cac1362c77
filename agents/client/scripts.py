"""Runs the user's training script, each task in a process of its own."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agents.client.children import Helper, end, start, sweep
from agents.client.runner import Assignment, arguments, environment
from schemas.ids import TrainingId

_FORK_SERVER = Path(__file__).with_name("fork_server.py")


@dataclass(frozen=True, slots=True)
class UserCode:
    """How user code is started.  `env` is what it inherits: nothing of Warren's, no secret."""

    executor: str
    cwd: Path
    env: Mapping[str, str]
    patience_s: float  # between being asked to end and being killed


class ScriptRunner:
    """`<executor> <script> train|test …`, a new interpreter per task."""

    def __init__(self, script: Path, how: UserCode) -> None:
        self._script, self._how = script, how

    async def run(self, assignment: Assignment) -> int:
        how = self._how
        command = (how.executor, str(self._script), *arguments(assignment))
        with assignment.output.open("wb") as output:
            child = await start(command, env=_env(how, assignment), cwd=how.cwd, output=output)
        try:
            return await child.wait()
        except asyncio.CancelledError:
            await end(child.pid, child.wait(), how.patience_s)
            raise
        finally:
            sweep(child.pid)

    async def forget(self, training_id: TrainingId) -> None:
        pass

    async def close(self) -> None:
        pass


class WarmScriptRunner:
    """The same script and the same contract, in a fork of an interpreter that has its slow imports done."""

    def __init__(self, script: Path, preload: tuple[str, ...], how: UserCode, parallel: int) -> None:
        self._script, self._preload, self._how = script, preload, how
        self._slots = asyncio.Semaphore(parallel)
        self._idle: list[Helper] = []  # a helper runs one script at a time

    async def run(self, assignment: Assignment) -> int:
        async with self._slots:
            server = await self._a_server()
            await server.tell(
                argv=[str(self._script), *arguments(assignment)],
                env=_env(self._how, assignment),
                cwd=str(self._how.cwd),
                output=str(assignment.output),
            )
            code = await self._code_of_fork(server)
            if code is None:
                return await server.code() or 1
            self._idle.append(server)
            return code

    async def forget(self, training_id: TrainingId) -> None:
        pass

    async def close(self) -> None:
        while self._idle:
            await self._idle.pop().end(self._how.patience_s)

    async def warm_up(self) -> None:
        """Start the first one before there is a task."""
        self._idle.append(await self._a_server())

    async def _a_server(self) -> Helper:
        while self._idle:
            server = self._idle.pop()
            if not server.has_ended:
                return server
        command = (self._how.executor, str(_FORK_SERVER), *self._preload)
        return Helper(await start(command, env=self._how.env, cwd=self._how.cwd))

    async def _code_of_fork(self, server: Helper) -> int | None:
        """None if the server has ended, and the fork with it."""
        begun = None
        try:
            begun = await server.answer()
            ended = await server.answer() if begun else None
        except asyncio.CancelledError:
            if begun is None:
                await server.end(self._how.patience_s)
            else:
                await end(begun["pid"], server.answer(), self._how.patience_s)
                self._idle.append(server)
            raise
        return ended["code"] if ended else None


def _env(how: UserCode, assignment: Assignment) -> dict[str, str]:
    return {**how.env, **environment(assignment)}
