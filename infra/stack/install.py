"""Where the servers' programs are, and how they get onto this machine."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar

from schemas.refusal import Refusal

_PACKAGES = {
    "rabbitmq_server": "rabbitmq-server",
    "epmd": "rabbitmq-server",
    "initdb": "postgresql",
    "postgres": "postgresql",
}
_POLICY = Path("/usr/sbin/policy-rc.d")


@dataclass(frozen=True)
class Binaries:
    rabbitmq_server: Path
    epmd: Path
    initdb: Path
    postgres: Path
    rclone: Path


class ServerMissing(Refusal):
    """`packages` are Debian's; empty when only the Python extra is missing."""

    code: ClassVar[str] = "server_missing"

    def __init__(self, programs: Sequence[str]) -> None:
        self.programs = tuple(programs)
        self.packages = tuple(sorted({_PACKAGES[name] for name in programs if name in _PACKAGES}))
        cures = []
        if self.packages:
            cures.append(
                f"run `apt-get install --no-install-recommends {' '.join(self.packages)}` as root"
                " or start a Docker engine that you may use"
            )
        if "rclone" in self.programs:
            cures.append("run `pip install 'warren[stack]'`")
        missing = ", ".join(name.replace("_", "-") for name in programs)
        super().__init__(f"the local stack needs {missing}, not found here: {'; '.join(cures)}")


class InstallFailed(Exception):
    def __init__(self, argv: Sequence[str], output: str) -> None:
        super().__init__(f"`{' '.join(argv)}` failed; it said last: {output[-1000:].strip()}")


def find(places: Iterable[Path]) -> Binaries:
    """The first program of each name in `places`."""
    folders = tuple(places)
    found = {field.name: find_one(field.name.replace("_", "-"), folders) for field in fields(Binaries)}
    present = {name: path for name, path in found.items() if path}
    if len(present) < len(found):
        raise ServerMissing([name for name, path in found.items() if path is None])
    return Binaries(**present)


def find_one(program: str, places: Iterable[Path]) -> Path | None:
    return next((folder / program for folder in places if os.access(folder / program, os.X_OK)), None)


def places() -> tuple[Path, ...]:
    """Debian's own folders before PATH, which has only wrappers of RabbitMQ that drop our environment."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: -float(p.parent.name))
    on_path = (Path(part) for part in os.environ.get("PATH", os.defpath).split(os.pathsep) if part)
    return (Path(sys.executable).parent, Path("/usr/lib/rabbitmq/bin"), *versions, *on_path)


def can_install() -> bool:
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install(packages: Sequence[str]) -> None:
    """As Debian packages, without letting them start system-wide servers."""
    quiet = ("-qq", "-o", "Dpkg::Use-Pty=0")
    with _no_service_starts():
        _apt("update", *quiet)
        _apt("install", *quiet, "-y", "--no-install-recommends", *packages)


@contextmanager
def _no_service_starts() -> Iterator[None]:
    """Debian asks `policy-rc.d` before it starts a service; 101 means no."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()


def _apt(*arguments: str) -> None:
    argv = ("apt-get", *arguments)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(  # noqa: S603 - our own arguments
        argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise InstallFailed(argv, done.stdout + done.stderr)
