"""The stack in containers, where an engine answers and has the images or can pull them.

A machine that has the programs uses them, so these tests hide them from the stack.
"""

import gc
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import docker
import pytest
from docker.errors import NotFound

from infra.stack import containers, install, processes
from infra.stack.containers import ImageMissing
from infra.stack.processes import ServerDidNotStart
from infra.stack.stack import SERVERS, Stack


def engine_answers() -> bool:
    """The Docker client forgets to close a socket that does not connect: not our warning."""
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        answers = containers.engine_answers()
        gc.collect()
    return answers


pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not engine_answers(), reason="no Docker engine answers here"),
]
IN_CONTAINERS = ("rabbitmq", "postgres")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Of a stack that finds nothing but rclone; no container of it is left afterwards."""
    monkeypatch.setattr(install, "places", lambda: (Path(sys.executable).parent,))
    monkeypatch.setattr(install, "can_install", lambda: False)
    yield tmp_path
    until(lambda: not left(tmp_path))
    assert not [name for name in SERVERS if processes.is_running(name, tmp_path)]


def test_they_start_are_found_running_and_leave_with_the_context(root: Path) -> None:
    with Stack.start(root) as stack:
        assert left(root) == list(IN_CONTAINERS)
        assert stack.running() == dict.fromkeys(SERVERS, True)
        assert Stack.start(root).endpoints == stack.endpoints
    assert left(root) == []


def test_a_stopped_stack_stays_in_containers_with_its_data(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Stack.start(root, detached=True).stop()
    monkeypatch.setattr(install, "find", lambda _: pytest.fail("the data are not for programs"))
    with Stack.start(root):
        assert left(root) == list(IN_CONTAINERS)


def test_containers_whose_keeper_was_killed_are_stopped_all_the_same(root: Path) -> None:
    stack = Stack.start(root)
    mark = processes.running("rabbitmq", root)
    assert mark
    subprocess.run(["kill", "-KILL", str(mark.pid)], check=True)
    stack.stop()
    assert left(root) == []


def test_containers_go_with_a_killed_runner(root: Path) -> None:
    Stack.start(root).stop()  # from now on in containers, also for those who see the programs
    code = "Stack.start(Path(sys.argv[1])); print('up', flush=True); time.sleep(60)"
    imports = "import sys, time; from pathlib import Path; from infra.stack.stack import Stack; "
    runner = subprocess.Popen([sys.executable, "-c", imports + code, str(root)], stdout=subprocess.PIPE)
    assert runner.stdout
    assert runner.stdout.readline() == b"up\n"
    runner.kill()
    runner.communicate()
    processes.stop(["s3"], root, timeout_s=5)


def test_an_image_that_cannot_be_had_is_named_and_nothing_stays(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = "localhost:1/warren/no-such-image:1"
    monkeypatch.setitem(containers.IMAGES, "postgres", missing)
    with pytest.raises(ImageMissing, match="docker pull localhost:1/warren/no-such-image:1") as refusal:
        Stack.start(root)
    assert refusal.value.image == missing


def test_a_container_that_ends_at_once_is_told_with_what_it_said(root: Path) -> None:
    Stack.start(root).stop()
    spoil(root / "postgres-container" / "postgresql.conf")
    began = time.monotonic()
    with pytest.raises(ServerDidNotStart, match=r"postgres ended at once(.|\n)*no_such_setting"):
        Stack.start(root)
    assert time.monotonic() - began < 60


def test_a_container_that_cannot_be_started_is_told_with_what_the_engine_said(root: Path) -> None:
    no_place_for_a_file = Path("/proc/self/ns/uts")
    with pytest.raises(ServerDidNotStart, match=r"rabbitmq ended at once(.|\n)*the Docker engine refused"):
        Stack.start(root, definitions=no_place_for_a_file)


def spoil(file: Path) -> None:
    file.write_text(file.read_text() + "no_such_setting = 1\n")


def left(root: Path) -> list[str]:
    """The servers of which there is a container, running or not."""
    found = []
    with closing(docker.from_env()) as client:
        for server in IN_CONTAINERS:
            try:
                client.containers.get(containers.name(server, root))
            except NotFound:
                continue
            found.append(server)
    return found


def until(is_true: Callable[[], object]) -> None:
    """The engine takes its time, so we look again and again."""
    deadline = time.monotonic() + 30
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.1)
