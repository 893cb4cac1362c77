"""The demo, for real: it completes, repeats itself, survives kills, and leaves nothing behind."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.e2e.warren import Warren, until

pytestmark = [pytest.mark.e2e, pytest.mark.integration, pytest.mark.timeout(300)]

LAST_LINE = re.compile(
    r"demo: completed rounds=5 clients=4 accuracy=(?P<accuracy>0\.\d+) baseline=(?P<baseline>0\.\d+) "
    r"seconds=\d+\.\d model=(?P<model>[0-9a-f]{64})"
)
VICTIMS = ("agent-ana", "scheduler", "aggregator-1", "api")


@pytest.fixture(scope="module")
def warren(tmp_path_factory: pytest.TempPathFactory) -> Warren:
    return Warren(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def undisturbed(warren: Warren) -> str:
    """What a whole demo says."""
    return warren("demo", "--rounds", "5", timeout_s=200)


def test_four_sites_learn_nearly_what_one_place_would(undisturbed: str) -> None:
    found = result(undisturbed)
    assert float(found["accuracy"]) >= 0.93
    assert float(found["accuracy"]) >= float(found["baseline"]) - 0.04


def test_there_is_a_line_per_round_and_a_picture(undisturbed: str, warren: Warren) -> None:
    assert all(f"round {number}/5: accuracy" in undisturbed for number in range(1, 6))
    assert (warren.folder / "demo-report" / "accuracy.png").read_bytes().startswith(b"\x89PNG")


def test_output_that_is_no_terminal_gets_no_control_codes(undisturbed: str) -> None:
    assert "\x1b" not in undisturbed


def test_nothing_is_left_running(undisturbed: str, warren: Warren) -> None:
    until(lambda: not warren.processes())


def test_with_a_process_of_each_kind_killed_the_model_is_the_same(
    undisturbed: str, warren: Warren, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    running = warren.begun("demo", "--rounds", "5", output=output)
    until_said(output, "round 1/5: upload", running)
    for name in VICTIMS:
        kill(warren, name)
    assert running.wait(200) == 0, output.read_text()
    said = output.read_text()
    assert all(f"{name} died" in said for name in VICTIMS)
    assert result(said)["model"] == result(undisturbed)["model"]


@pytest.mark.parametrize("strategy", ["FedDC", "SCAFFOLD"])
def test_a_strategy_with_chains_or_controls_learns_too(warren: Warren, strategy: str) -> None:
    said = warren("demo", "--rounds", "4", "--strategy", strategy, timeout_s=200)
    assert said.splitlines()[-1].startswith("demo: completed rounds=4 clients=4 accuracy=0.9")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_demo_that_is_stopped_leaves_nothing_running(
    undisturbed: str, warren: Warren, tmp_path: Path, number: signal.Signals
) -> None:
    output = tmp_path / "output"
    running = warren.begun("demo", output=output)
    until_said(output, "all is up", running)
    running.send_signal(number)
    assert running.wait(60) != 0
    until(lambda: not warren.processes())
    assert "Traceback" not in output.read_text()


def result(said: str) -> dict[str, str]:
    found = LAST_LINE.fullmatch(said.splitlines()[-1])
    assert found, said
    return found.groupdict()


def until_said(output: Path, words: str, running: subprocess.Popen[bytes]) -> None:
    until(lambda: words in output.read_text() or running.poll() is not None)
    assert running.poll() is None, output.read_text()


def kill(warren: Warren, name: str) -> None:
    mark = warren.folder / ".warren" / "demo" / "run" / f"{name}.json"
    os.kill(json.loads(mark.read_text())["pid"], signal.SIGKILL)
