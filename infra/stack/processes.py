"""One server process: started on its own, found again after a crash, stopped with patience."""

import contextlib
import logging
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.stack.record import Frozen

log = logging.getLogger(__name__)
_POLL_S = 0.02
# What we ignore the servers need not ignore.
_DEFAULT = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)


@dataclass(frozen=True)
class Program:
    """What to run, when it counts as started, and how it is asked to stop."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    is_ready: Callable[[], bool]
    stop_signal: signal.Signals = signal.SIGTERM
    privileges: tuple[str, ...] = ()  # arguments of setpriv(1)
    tether: str = "KILL"  # the signal it gets when who started it dies


class Mark(Frozen):
    """A pid file: which process, born when, so that a reused pid is not mistaken for ours."""

    pid: int
    born: str
    stop_signal: int


class ServerDidNotStart(Exception):
    """Says why, with the end of its log."""

    def __init__(self, name: str, why: str, root: Path) -> None:
        file = log_file(name, root)
        tail = file.read_text(errors="replace").splitlines()[-15:] if file.exists() else []
        super().__init__("\n  ".join([f"{name} {why}; the end of {file}:", *tail]))


def launch(program: Program, root: Path, *, tethered: bool) -> None:
    """Start it in a session of its own.  Tethered: it is killed when the calling *thread* ends, however."""
    argv = _wrapped(program, tethered=tethered)
    output = log_file(program.name, root)
    output.parent.mkdir(parents=True, exist_ok=True)
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(output), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    executable = shutil.which(argv[0]) or argv[0]
    pid = os.posix_spawn(
        executable, argv, program.env, file_actions=actions, setsid=True, setsigmask=(), setsigdef=_DEFAULT
    )
    mark = Mark(pid=pid, born=_birth(pid) or "", stop_signal=program.stop_signal)
    file = _mark_file(program.name, root)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(mark.model_dump_json())


def is_running(name: str, root: Path) -> bool:
    return running(name, root) is not None


def running(name: str, root: Path) -> Mark | None:
    """The living process of that name.  A stale or foreign pid file is none."""
    try:
        mark = Mark.model_validate_json(_mark_file(name, root).read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return mark if _is_alive(mark) else None


def names(root: Path) -> tuple[str, ...]:
    """Of everything that was launched here and not stopped since, whether it lives or not."""
    return tuple(sorted(file.stem for file in (root / "run").glob("*.json")))


def wait_ready(program: Program, root: Path, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while is_running(program.name, root):
        if program.is_ready():
            return
        if time.monotonic() > deadline:
            raise ServerDidNotStart(program.name, f"was not ready after {timeout_s:.0f} s", root)
        time.sleep(_POLL_S)
    raise ServerDidNotStart(program.name, "ended at once", root)


def stop(names: Iterable[str], root: Path, timeout_s: float) -> None:
    """Ask all of them to end and wait for each.  Killed is only what outlasts its time."""
    found = {name: running(name, root) for name in names}
    for living in filter(None, found.values()):
        _send(living, living.stop_signal)
    deadline = time.monotonic() + timeout_s
    for name, mark in found.items():
        if mark and not _ends_before(deadline, mark):
            log.warning("server did not stop in time and was killed", extra={"server": name})
            _send(mark, signal.SIGKILL)
        _mark_file(name, root).unlink(missing_ok=True)


def end_orphans(folder: Path, title: bytes) -> None:
    """Kill what bears this title and works inside this folder: children that outlived their server."""
    deadline = time.monotonic() + 10
    while orphans := [pid for pid in _pids() if _is_at_work(folder, title, pid)]:
        for pid in orphans:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            return  # the server itself will say what is wrong
        time.sleep(_POLL_S)


def log_file(name: str, root: Path) -> Path:
    return root / "logs" / f"{name}.log"


def _mark_file(name: str, root: Path) -> Path:
    return root / "run" / f"{name}.json"


def _wrapped(program: Program, *, tethered: bool) -> tuple[str, ...]:
    options = (*program.privileges, *(("--pdeathsig", program.tether) if tethered else ()))
    return ("setpriv", *options, "--", *program.argv) if options else program.argv


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _is_at_work(folder: Path, title: bytes, pid: int) -> bool:
    place = Path(f"/proc/{pid}")
    try:
        return (place / "cmdline").read_bytes().startswith(title) and (place / "cwd").readlink() == folder
    except OSError:  # it ended, or is none of our business
        return False


def _send(mark: Mark, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it was faster
        os.kill(mark.pid, number)


def _ends_before(deadline: float, mark: Mark) -> bool:
    while _is_alive(mark):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _is_alive(mark: Mark) -> bool:
    alive = _birth(mark.pid) == mark.born
    if not alive:
        _reap(mark.pid)
    return alive


def _reap(pid: int) -> None:
    """A child of ours that ended stays a zombie until somebody asks."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def _birth(pid: int) -> str | None:
    """Boot and tick at which this process began; None once it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()  # the name before it may hold spaces
    state, started = fields[0], fields[19]
    return None if state in "ZX" else f"{boot}:{started}"
