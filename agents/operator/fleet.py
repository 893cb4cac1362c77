"""Keeps processes alive for as long as ours: what dies is started again, after growing waits."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from infra.stack import processes
from infra.stack.processes import Program, ServerDidNotStart

_STEADY_S = 30.0
_WAITS_S = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0)


@dataclass
class Watched:
    program: Program
    launched_at: float
    restarts: int = 0
    due_at: float | None = None  # of its next start, once it was found dead


@dataclass
class Fleet:
    """Tethered processes.  Everything is called by one thread: they die with it."""

    root: Path
    mend_servers: Callable[[], Iterable[str]]  # what they need; tells which of it had died
    say: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    _watched: dict[str, Watched] = field(default_factory=dict)

    def launch(self, programs: Iterable[Program]) -> None:
        for program in programs:
            self._watched[program.name] = Watched(program, self.clock())
            if not processes.is_running(program.name, self.root):
                processes.launch(program, self.root, tethered=True)

    def mend(self) -> None:
        """Start again what has died and whose wait is over.  Raises once something dies again and again."""
        for name in self.mend_servers():
            self.say(f"{name} died and was started again")
        for watched in self._watched.values():
            if not processes.is_running(watched.program.name, self.root):
                self._mend(watched)

    def _mend(self, watched: Watched) -> None:
        now, name = self.clock(), watched.program.name
        if watched.due_at is None:
            if now - watched.launched_at > _STEADY_S:
                watched.restarts = 0
            if watched.restarts == len(_WAITS_S):
                raise ServerDidNotStart(name, f"died {watched.restarts + 1} times", self.root)
            watched.due_at = now + _WAITS_S[watched.restarts]
            self.say(f"{name} died; starting again")
        if now >= watched.due_at:
            processes.launch(watched.program, self.root, tethered=True)
            watched.launched_at, watched.due_at = now, None
            watched.restarts += 1
