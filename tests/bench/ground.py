"""A whole Warren to measure on, and what the machine under it is."""

import os
import platform
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import httpx
import numpy as np
from safetensors.numpy import save_file

from agents.operator.answers import Credentials
from agents.operator.deployment import Deployment
from agents.operator.logins import write_secret
from agents.operator.rest import Api
from agents.operator.services import api_url
from agents.operator.settings import clean_environment
from infra.stack import processes
from infra.stack.processes import Program

WORKERS = ("aggregator-1", "aggregator-2")
TINY = 1_000  # parameters of the model


class Fleet:
    """Processes beside the stack that die with us, and when we say so."""

    def __init__(self, deployment: Deployment) -> None:
        self.logs, self._root = deployment.stack.logs, deployment.root
        self._programs: dict[str, Program] = {}

    def launch(self, programs: Iterable[Program]) -> None:
        for program in programs:
            self._programs[program.name] = program
            processes.launch(program, self._root, tethered=True)

    def start(self, name: str) -> None:
        processes.launch(self._programs[name], self._root, tethered=True)

    def stop(self, names: tuple[str, ...]) -> None:
        processes.stop(names, self._root, 10)

    def kill(self, name: str) -> None:
        if mark := processes.running(name, self._root):
            os.kill(mark.pid, signal.SIGKILL)
        while processes.is_running(name, self._root):
            time.sleep(0.005)


@contextmanager
def warren(root: Path) -> Iterator[tuple[Deployment, Fleet]]:
    """Servers and services that die with us."""
    deployment = Deployment.start(root, detached=False)
    fleet = Fleet(deployment)
    try:
        programs = deployment.programs(len(WORKERS))
        fleet.launch(programs)
        deployment.wait_until_ready(programs)
        yield deployment, fleet
    finally:
        deployment.stop()


def owner(deployment: Deployment) -> Api:
    return Api(api_url(deployment.logins), httpx.BasicAuth("admin", deployment.logins.admin))


def agent(name: str, credentials: Credentials, root: Path) -> Program:
    """An agent with the no-op trainer."""
    file = root / "bench" / f"{name}.json"
    write_secret(file, credentials.model_dump_json())
    options = {"credentials": file, "data": root / "bench" / name, "trainer": f"{__package__}.noop:Noop"}
    argv = (part for option, value in options.items() for part in (f"--{option}", str(value)))
    return Program(
        name,
        (sys.executable, "-m", "agents.client", *argv),
        clean_environment() | {"PYTHONPATH": str(Path.cwd())},
        is_ready=lambda: True,
    )


def a_model(api: Api, root: Path) -> UUID:
    file = root / "tiny.safetensors"
    save_file({"weights": np.zeros(TINY, np.float32)}, file)
    return api.add_model("tiny", "", file)


def until_over(api: Api, training: UUID, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not (seen := api.training(training)).is_over:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the training is still in round {seen.round}, {seen.phase}")
        time.sleep(1)  # each look costs what is measured
    if seen.reason:
        raise RuntimeError(seen.reason)


def machine() -> str:
    told = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    model = told[0].split(":")[1].strip() if told else platform.machine()
    load = os.getloadavg()[0]
    return f"machine: {os.cpu_count()} cores ({model}), load {load:.1f}, Python {platform.python_version()}"
