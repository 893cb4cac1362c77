"""Processes that are started again when they die, on real processes."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.operator.fleet import Fleet
from infra.stack import processes
from infra.stack.processes import Program, ServerDidNotStart


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def fleet(tmp_path: Path, clock: Clock, told: list[str]) -> Iterator[Fleet]:
    yield Fleet(tmp_path, mend_servers=lambda: (), say=told.append, clock=clock)
    processes.stop(processes.names(tmp_path), tmp_path, 5)


def test_what_was_killed_is_started_again(fleet: Fleet, told: list[str]) -> None:
    fleet.launch([sleeper()])
    before = kill(fleet)
    fleet.mend()
    assert pid_of(fleet) != before
    assert told == ["sleeper died; starting again"]


def test_what_lives_is_left_alone(fleet: Fleet, told: list[str]) -> None:
    fleet.launch([sleeper()])
    before = pid_of(fleet)
    fleet.mend()
    assert pid_of(fleet) == before
    assert told == []


def test_the_second_restart_waits(fleet: Fleet, clock: Clock) -> None:
    fleet.launch([sleeper()])
    kill(fleet)
    fleet.mend()
    kill(fleet)
    fleet.mend()
    assert not processes.is_running("sleeper", fleet.root)
    clock.now += 1
    fleet.mend()
    assert processes.is_running("sleeper", fleet.root)


def test_what_dies_again_and_again_is_given_up_with_its_log(fleet: Fleet, clock: Clock) -> None:
    fleet.launch([Program("broken", ("/bin/sh", "-c", "echo no luck; exit 1"), {}, is_ready=lambda: True)])
    with pytest.raises(ServerDidNotStart, match="no luck"):
        mend_for(fleet, clock, seconds=200)


def test_servers_that_were_mended_are_told_of(tmp_path: Path, told: list[str]) -> None:
    Fleet(tmp_path, mend_servers=lambda: ("postgres",), say=told.append).mend()
    assert told == ["postgres died and was started again"]


def mend_for(fleet: Fleet, clock: Clock, seconds: float) -> None:
    while clock.now < seconds:
        clock.now += 5
        until_dead(fleet, "broken")
        fleet.mend()


def sleeper() -> Program:
    return Program("sleeper", ("/bin/sleep", "60"), {}, is_ready=lambda: True)


def pid_of(fleet: Fleet) -> int:
    mark = processes.running("sleeper", fleet.root)
    assert mark
    return mark.pid


def kill(fleet: Fleet) -> int:
    pid = pid_of(fleet)
    os.kill(pid, signal.SIGKILL)
    until_dead(fleet, "sleeper")
    return pid


def until_dead(fleet: Fleet, name: str) -> None:
    while processes.is_running(name, fleet.root):
        time.sleep(0.005)
