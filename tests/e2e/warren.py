"""Runs the `warren` command as its users do, and sees whether it leaves anything behind."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PATIENCE_S = 90


@dataclass(frozen=True)
class Warren:
    """The command in a folder of its own, with the stack under `.warren` there."""

    folder: Path

    def __call__(self, *arguments: str, timeout_s: float = 100) -> str:
        """What it said.  Anything but success is an error of the test."""
        done = self.tried(*arguments, timeout_s=timeout_s)
        assert done.returncode == 0, f"warren {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def tried(self, *arguments: str, timeout_s: float = 100) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def begun(self, *arguments: str, output: Path) -> subprocess.Popen[bytes]:
        with output.open("wb") as file:
            return subprocess.Popen(self.command(*arguments), cwd=self.folder, stdout=file, stderr=file)

    def told(self, *arguments: str) -> Any:
        """The JSON it said."""
        return json.loads(self(*arguments, "--json"))

    def processes(self) -> list[str]:
        """Command lines of what works in or with our folder."""
        return [words for entry in Path("/proc").iterdir() if str(self.folder) in (words := _words(entry))]

    @staticmethod
    def command(*arguments: str) -> tuple[str, ...]:
        return (sys.executable, "-m", "agents.operator", *arguments)


def until(claim: Callable[[], Any]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not claim():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)


def _words(entry: Path) -> str:
    """Command line, folder and environment of a process: services name our folder only in some of them."""
    if not entry.name.isdigit():
        return ""
    try:
        words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        return f"{words} {(entry / 'cwd').readlink()}" if words else ""
    except OSError:  # it has ended
        return ""
