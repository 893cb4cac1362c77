"""Services as processes that can be killed."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr
from pydantic_settings import BaseSettings

_ROOT = Path(__file__).parents[2]
_PATIENCE_S = 30


@dataclass
class Service:
    """`python -m services.<name>`, its log in a file."""

    name: str
    settings: BaseSettings
    log: Path
    _running: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._running = subprocess.Popen(
                [sys.executable, "-m", f"services.{self.name}"],
                cwd=_ROOT,
                env=self._environment(),
                stderr=log,
            )

    def kill(self) -> None:
        """With SIGKILL, at once."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """With SIGTERM, as soon as it listens to that; answers the exit code."""
        deadline = time.monotonic() + _PATIENCE_S
        while not self._listens():
            assert time.monotonic() < deadline, f"{self.name} never began to listen to SIGTERM"
            time.sleep(0.01)
        return self._end(signal.SIGTERM)

    def _listens(self) -> bool:
        """By the signals that it catches, as the system knows them."""
        if self._running is None or self._running.poll() is not None:
            return True
        status = Path(f"/proc/{self._running.pid}/status").read_text()
        caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
        return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)

    def _end(self, by: signal.Signals) -> int:
        if self._running is None:
            return 0
        self._running.send_signal(by)
        try:
            return self._running.wait(20)
        finally:
            self._running.kill()
            self._running = None

    def _environment(self) -> dict[str, str]:
        told = {name: _plain(value) for name, value in self.settings if value is not None}
        return {f"WARREN_{self.name}_{name}".upper(): text for name, text in told.items()}


@contextmanager
def started(*services: Service) -> Iterator[None]:
    try:
        for service in services:
            service.start()
        yield
    finally:
        for service in services:
            service.kill()


def _plain(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
