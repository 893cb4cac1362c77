"""A whole Warren under one directory: servers and services, started, mended and stopped together."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from agents.operator import preparation, services
from agents.operator.errors import NothingRunning
from agents.operator.logins import Logins
from agents.operator.queues import until_consumed
from agents.operator.settings import clean_environment, rules_environment
from infra.stack import processes
from infra.stack.processes import Program
from infra.stack.record import Endpoints
from infra.stack.stack import SERVERS, Stack

_SERVERS = {"epmd", *SERVERS}
_READY_S = 60.0
_STOP_S = 20.0


@dataclass(frozen=True)
class Deployment:
    stack: Stack
    logins: Logins

    @classmethod
    def find(cls, root: Path) -> Self:
        """The one that was once started under `root`, running or not."""
        stack, logins = Stack.find(root), Logins.find(root)
        if stack is None or logins is None:
            raise NothingRunning(root)
        return cls(stack, logins)

    @classmethod
    def start(cls, root: Path, *, detached: bool) -> Self:
        """Start the servers that are not running and make them ready for services."""
        logins = _logins(root)
        logins.keep(root)
        stack = Stack.start(root, detached=detached)
        try:
            asyncio.run(_prepared(stack.endpoints, logins))
        except BaseException:  # a Ctrl-C too: what dies with us had better be stopped
            if not detached:
                stack.stop()
            raise
        return cls(stack, logins)

    @property
    def root(self) -> Path:
        return self.stack.root

    @property
    def endpoints(self) -> Endpoints:
        return self.stack.endpoints

    def programs(self, aggregators: int) -> tuple[Program, ...]:
        inherited = {**clean_environment(), **rules_environment()}
        return services.programs(self.endpoints, self.logins, aggregators, inherited)

    def launch(self, programs: tuple[Program, ...]) -> None:
        """Those that do not run yet, to outlive us; workers beyond them are stopped."""
        names = {program.name for program in programs}
        surplus = [
            name for name in self.known() if name.startswith(services.AGGREGATOR) and name not in names
        ]
        processes.stop(surplus, self.root, _STOP_S)
        for program in programs:
            if not processes.is_running(program.name, self.root):
                processes.launch(program, self.root, tethered=False)

    def mend_servers(self) -> tuple[str, ...]:
        """Start again what has died, to live as long as the calling thread; which of them that was."""
        died = tuple(name for name, runs in self.stack.running().items() if not runs)
        if died:
            Stack.start(self.root)
        return died

    def wait_until_ready(self, programs: tuple[Program, ...]) -> None:
        for program in programs:
            processes.wait_ready(program, self.root, _READY_S)
        workers = sum(program.name.startswith(services.AGGREGATOR) for program in programs)
        url = services.admin_broker_url(self.endpoints)
        asyncio.run(until_consumed(url, workers, lambda: self._require_alive(programs), _READY_S))

    def known(self) -> tuple[str, ...]:
        """The names of all service processes that were started here and not stopped since."""
        return tuple(name for name in processes.names(self.root) if name not in _SERVERS)

    def running(self) -> Mapping[str, int | None]:
        """The pid of each service, or nothing if it has died."""
        marks = {name: processes.running(name, self.root) for name in self.known()}
        return {name: mark.pid if mark else None for name, mark in marks.items()}

    def stop(self) -> None:
        """Services first, so that they can say what they have to say; then the servers."""
        processes.stop(self.known(), self.root, _STOP_S)
        self.stack.stop()

    def _require_alive(self, programs: tuple[Program, ...]) -> None:
        for program in programs:
            if not processes.is_running(program.name, self.root):
                raise processes.ServerDidNotStart(program.name, "ended at once", self.root)


async def _prepared(endpoints: Endpoints, logins: Logins) -> None:
    await preparation.prepare(preparation.servers_of(endpoints), preparation.wanted(logins))


def _logins(root: Path) -> Logins:
    """The API keeps its port while it runs; before it starts, it may have to move."""
    logins = Logins.find(root) or Logins.fresh()
    return logins if processes.is_running("api", root) else logins.moved()
