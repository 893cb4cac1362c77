# ruff: noqa: ASYNC110 -- tests may look at the disk, and wait by looking
"""An agent as a real process, and the user code it runs."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]

SCRIPT = """
import json, os, pathlib, shutil, sys, time
runs = pathlib.Path(os.environ["RUNS"])
with runs.open("a") as file:
    file.write(f"{os.getpid()}\\n")
if os.environ.get("HANG") and len(runs.read_text().split()) == 1:
    time.sleep(600)
time.sleep(float(os.environ.get("TAKES", "0")))
shutil.copy(os.environ["WARREN_MODEL_IN"], os.environ["WARREN_UPDATE_OUT"])
json.dump({"num_examples": 7, "metrics": {"loss": 0.25}}, open(os.environ["WARREN_RESULT_OUT"], "w"))
"""


class Agent:
    """Started and killed as often as a test likes; its data stays."""

    def __init__(self, folder: Path, credentials: Path, *options: str) -> None:
        self._folder, self._credentials = folder, credentials
        self._options = options or ("--script", str(self._script()))
        self.data = folder / "data"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, **environment: str) -> None:
        command = [sys.executable, "-m", "agents.client", "--credentials", str(self._credentials)]
        log = (self._folder / "agent.log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [*command, "--data", str(self.data), "--workdir", str(self._folder), *self._options],
                env={
                    **os.environ,
                    "RUNS": str(self._folder / "runs"),
                    "WARREN_AGENT_HEARTBEAT_S": "0.2",
                    **environment,
                },
                cwd=REPOSITORY,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self) -> None:
        self.end(signal.SIGKILL)

    def end(self, number: int = signal.SIGTERM) -> int:
        assert self._process
        if self._process.poll() is None:
            self._process.send_signal(number)
        return self._process.wait(timeout=30)

    def exit_code(self) -> int:
        assert self._process
        return self._process.wait(timeout=30)

    @property
    def log(self) -> str:
        return (self._folder / "agent.log").read_text()

    @property
    def runs(self) -> list[int]:
        path = self._folder / "runs"
        return [int(pid) for pid in path.read_text().split()] if path.exists() else []

    async def until_run(self) -> None:
        async with asyncio.timeout(30):
            while not self.runs:
                await asyncio.sleep(0.01)

    async def until_step(self, step: str) -> None:
        """Until the only task's row says so."""
        async with asyncio.timeout(30):
            while self.steps != [step]:
                await asyncio.sleep(0.01)

    @property
    def steps(self) -> list[str]:
        path = self.data / "journal.db"
        if not path.exists():
            return []
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as journal:
                return [step for (step,) in journal.execute("SELECT step FROM tasks")]
        except sqlite3.OperationalError:  # it is just being made
            return []

    def _script(self) -> Path:
        path = self._folder / "train.py"
        path.write_text(SCRIPT)
        return path
