"""Runs the scripts of `examples/digits`: each in a process that dies with ours."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict

from agents.operator.errors import CommandFailed
from agents.operator.settings import clean_environment

FOLDER = Path(__file__).resolve().parents[3] / "examples" / "digits"
_TETHER = ("setpriv", "--pdeathsig", "KILL", "--")
_POLITE = ("nice", "-n", "15")


class Score(BaseModel):
    """What `baseline.py` and `evaluate.py` say."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    loss: float
    accuracy: float


class Script:
    """One script at work.  Left behind, it is killed."""

    def __init__(self, name: str, *arguments: object, polite: bool = False) -> None:
        self._name = name
        command = (sys.executable, str(FOLDER / name), *map(str, arguments))
        self._child = subprocess.Popen(  # noqa: S603 - our own example
            (*_TETHER, *(_POLITE if polite else ()), *command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=clean_environment(),
            text=True,
            start_new_session=True,  # a Ctrl-C is for us; we end what we started
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.kill()
        self._child.communicate()

    def output(self) -> str:
        """Wait until it ends; all it said."""
        said, complained = self._child.communicate()
        if self._child.returncode != 0:
            raise CommandFailed(f"{self._name} failed: {complained.strip()[-2_000:]}")
        return said

    def score(self) -> Score:
        return Score.model_validate(json.loads(self.output()))
