"""The three servers of a private stack, started and stopped as one."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Self

from infra.stack import install, postgres, processes, rabbitmq, s3
from infra.stack.install import Binaries, ServerMissing
from infra.stack.record import Endpoints, Record

SERVERS = ("rabbitmq", "postgres", "s3")
_PORTS = {"rabbitmq": rabbitmq.PORTS, "postgres": postgres.PORTS, "s3": s3.PORTS}
_START_S = 90.0
_STOP_S = 30.0


class Stack:
    """The stack of one directory.  Leaving the context stops what this one started, and nothing else."""

    def __init__(self, root: Path, endpoints: Endpoints, started: tuple[str, ...] = ()) -> None:
        self.root = root
        self.endpoints = endpoints
        self._started = started

    @classmethod
    def start(cls, root: Path, *, detached: bool = False, definitions: Path | None = None) -> Self:
        """Start what is not running yet and wait until it answers.

        Detached, the servers outlive this process.  Otherwise they are killed when the calling
        thread ends, even by SIGKILL, unless they were stopped before.
        """
        root = root.resolve()
        with _taking_turns(root):
            started = _down(root)
            record = _record(root, started)
            record.write(_file(root))
            in_containers = _marker(root).exists()
            try:
                if not _came_up(record, root, definitions, tethered=not detached):
                    started += _down(root)
                    _start(record, root, definitions, tethered=not detached)
            except BaseException:  # a Ctrl-C too: nothing may stay behind half started
                _stop(started, root)
                if not in_containers:
                    _marker(root).unlink(missing_ok=True)  # no data yet: they may be for programs after all
                raise
        return cls(root, record.endpoints, started)

    @classmethod
    def find(cls, root: Path) -> Self | None:
        """The stack that was once started under `root`, running or not."""
        root = root.resolve()
        return cls(root, Record.read(_file(root)).endpoints) if _file(root).exists() else None

    def stop(self) -> None:
        """Stop all its servers, whoever started them.  The data stays."""
        with _taking_turns(self.root):
            _stop(SERVERS, self.root)

    def running(self) -> dict[str, bool]:
        return {name: processes.is_running(name, self.root) for name in SERVERS}

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _taking_turns(self.root):
            _stop(self._started, self.root)


def _came_up(record: Record, root: Path, definitions: Path | None, *, tethered: bool) -> bool:
    """Not where one was dying when we found it running, or died while another was started: try again."""
    try:
        _start(record, root, definitions, tethered=tethered)
    except processes.ServerDidNotStart:
        return False
    return _all_answer(record.endpoints)


def _start(record: Record, root: Path, definitions: Path | None, *, tethered: bool) -> None:
    """With programs of this machine, else in containers: as it was the first time, for there the data are."""
    if _marker(root).exists():
        _launch_containers(record, root, definitions, tethered=tethered)
        return
    try:
        binaries = _binaries()
    except ServerMissing:
        if (root / "postgres").exists() or not _containers().engine_answers():
            raise
        _launch_containers(record, root, definitions, tethered=tethered)
    else:
        _launch(binaries, record, root, definitions, tethered=tethered)


def _binaries() -> Binaries:
    try:
        return install.find(install.places())
    except ServerMissing as missing:
        if not (missing.packages and install.can_install()):
            raise
        install.install(missing.packages)
        return install.find(install.places())


def _launch(
    binaries: Binaries, record: Record, root: Path, definitions: Path | None, *, tethered: bool
) -> None:
    """Each boots while the next is prepared; RabbitMQ first, for it takes longest."""
    mapper, broker = rabbitmq.programs(binaries, record, root, definitions)
    if not processes.is_running("rabbitmq", root):
        processes.stop(["epmd"], root, _STOP_S)
        processes.launch(mapper, root, tethered=tethered)
        processes.wait_ready(mapper, root, _START_S)
        processes.launch(broker, root, tethered=tethered)
    _launch_s3(binaries.rclone, record, root, tethered=tethered)
    if not processes.is_running("postgres", root):
        database = postgres.program(binaries, record, root)
        processes.launch(database, root, tethered=tethered)
        processes.wait_ready(database, root, _START_S)
    processes.wait_ready(broker, root, _START_S)


def _launch_containers(record: Record, root: Path, definitions: Path | None, *, tethered: bool) -> None:
    rclone = install.find_one("rclone", install.places())
    if rclone is None:
        raise ServerMissing(["rclone"])
    _containers().fetch_images()
    _marker(root).touch()
    keepers = _containers().programs(record, root, definitions)
    for keeper in keepers:
        if not processes.is_running(keeper.name, root):
            processes.launch(keeper, root, tethered=tethered)
    _launch_s3(rclone, record, root, tethered=tethered)
    for keeper in keepers:
        processes.wait_ready(keeper, root, _START_S)


def _launch_s3(rclone: Path, record: Record, root: Path, *, tethered: bool) -> None:
    if not processes.is_running("s3", root):
        store = s3.program(rclone, record, root)
        processes.launch(store, root, tethered=tethered)
        processes.wait_ready(store, root, _START_S)


def _stop(names: tuple[str, ...], root: Path) -> None:
    in_containers = _marker(root).exists()
    processes.stop([name for name in names if name != "rabbitmq" or in_containers], root, _STOP_S)
    if in_containers:
        for name in set(names) - {"s3"}:
            _containers().remove(name, root)  # whose keeper was killed
    elif "rabbitmq" in names:
        if processes.is_running("rabbitmq", root):
            rabbitmq.hasten_stop(root)
        processes.stop(["rabbitmq"], root, _STOP_S)
        processes.stop(["epmd"], root, _STOP_S)


def _down(root: Path) -> tuple[str, ...]:
    return tuple(name for name in SERVERS if not processes.is_running(name, root))


def _all_answer(endpoints: Endpoints) -> bool:
    rabbit, database, store = endpoints.rabbit, endpoints.postgres, endpoints.s3
    return rabbitmq.greets(rabbit.port) and postgres.accepts(database) and s3.answers(store)


def _record(root: Path, down: tuple[str, ...]) -> Record:
    """What was remembered, moved to other ports where somebody took ours while we were down."""
    record = Record.read(_file(root)) if _file(root).exists() else Record.fresh()
    return record.moved_off(frozenset().union(*(_PORTS[name] for name in down)))


def _file(root: Path) -> Path:
    return root / "stack.json"


def _marker(root: Path) -> Path:
    """There where RabbitMQ and PostgreSQL run in containers, and keep their data for them."""
    return root / "containers"


def _containers() -> ModuleType:
    from infra.stack import containers  # noqa: PLC0415 - slow to import, and few machines need it

    return containers


@contextmanager
def _taking_turns(root: Path) -> Iterator[None]:
    """Two commands on one stack do not mix their steps."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
