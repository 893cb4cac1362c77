"""What the local stack decides without starting anything."""

import os
import socket
import time
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
from pydantic import ValidationError

from infra.stack import install, processes, rabbitmq
from infra.stack.install import ServerMissing
from infra.stack.processes import Program, ServerDidNotStart
from infra.stack.record import HOST, Record


def a_folder_with(folder: Path, *programs: str) -> Path:
    folder.mkdir(parents=True)
    for name in programs:
        (folder / name).touch(mode=0o755)
    return folder


def a_program(script: str, ready: Path = Path("never")) -> Program:
    """A shell script that is ready once the file is there; it may write it as `started`."""
    script = script.replace("> started", f"> {ready}")
    return Program(name="sh", argv=("/bin/sh", "-c", script), env=dict(os.environ), is_ready=ready.exists)


def test_the_first_folder_that_has_a_program_wins(tmp_path: Path) -> None:
    ours = a_folder_with(tmp_path / "ours", "rabbitmq-server", "epmd", "initdb", "postgres")
    wrappers = a_folder_with(tmp_path / "wrappers", "rabbitmq-server", "rclone")
    found = install.find([ours, wrappers])
    assert found.rabbitmq_server == ours / "rabbitmq-server"
    assert found.rclone == wrappers / "rclone"


@pytest.mark.parametrize(
    ("present", "packages", "sentence"),
    [
        (("rclone", "initdb", "postgres"), ("rabbitmq-server",), "apt-get install .* rabbitmq-server"),
        (("rclone", "rabbitmq-server", "epmd"), ("postgresql",), "needs initdb, postgres"),
        ((), ("postgresql", "rabbitmq-server"), r"pip install 'warren\[stack\]'"),
    ],
)
def test_a_missing_server_is_refused_with_the_packages_that_bring_it(
    tmp_path: Path, present: tuple[str, ...], packages: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(ServerMissing, match=sentence) as refusal:
        install.find([a_folder_with(tmp_path / "bin", *present)])
    assert refusal.value.packages == packages


def test_a_file_that_cannot_be_run_is_not_a_program(tmp_path: Path) -> None:
    (tmp_path / "rclone").touch(mode=0o644)
    assert install.find_one("rclone", [tmp_path]) is None


def test_a_record_is_read_back_as_written_and_is_for_its_owner_only(tmp_path: Path) -> None:
    record, file = Record.fresh(), tmp_path / "stack.json"
    record.write(file)
    assert Record.read(file) == record
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_record_shows_no_password() -> None:
    record = Record.fresh()
    shown = repr(record) + repr(record.endpoints)
    assert not [secret for secret in record.passwords.model_dump().values() if secret in shown]


def test_a_record_of_another_shape_is_not_accepted(tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text("{}")
    with pytest.raises(ValidationError):
        Record.read(tmp_path / "stack.json")


def test_ports_are_all_different() -> None:
    ports = Record.fresh().ports.model_dump().values()
    assert len(set(ports)) == len(ports)


def test_only_a_taken_port_moves() -> None:
    record = Record.fresh()
    with socket.socket() as somebody:
        somebody.bind((HOST, record.ports.s3))
        somebody.listen()
        moved = record.moved_off(frozenset({"s3", "postgres"}), patience_s=0)
    assert moved.ports.s3 != record.ports.s3
    assert moved.ports.model_copy(update={"s3": record.ports.s3}) == record.ports
    assert moved.passwords == record.passwords


@pytest.mark.parametrize(
    "content",
    [
        "",
        "no json",
        pytest.param(
            f'{{"pid": {os.getpid()}, "born": "another boot:1", "stop_signal": 15}}', id="before a reboot"
        ),
        '{"pid": 999999999, "born": "", "stop_signal": 15}',
    ],
)
def test_a_pid_file_that_is_not_about_our_process_is_ignored(tmp_path: Path, content: str) -> None:
    file = tmp_path / "run" / "postgres.json"
    file.parent.mkdir()
    file.write_text(content)
    assert processes.running("postgres", tmp_path) is None
    processes.stop(["postgres"], tmp_path, timeout_s=1)


def test_a_process_that_ends_at_once_is_reported_with_what_it_said(tmp_path: Path) -> None:
    program = a_program("echo port 1 is not for you; exit 3")
    processes.launch(program, tmp_path, tethered=True)
    with pytest.raises(ServerDidNotStart, match=r"sh ended at once.*\n.*port 1 is not for you"):
        processes.wait_ready(program, tmp_path, timeout_s=5)


def test_a_process_that_does_not_become_ready_is_reported(tmp_path: Path) -> None:
    program = a_program("exec sleep 60")
    processes.launch(program, tmp_path, tethered=True)
    with pytest.raises(ServerDidNotStart, match="not ready after 0 s"):
        processes.wait_ready(program, tmp_path, timeout_s=0)
    processes.stop(["sh"], tmp_path, timeout_s=5)
    assert not processes.is_running("sh", tmp_path)


def test_only_what_outlasts_its_time_is_killed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stubborn = a_program("trap '' TERM; echo > started; while :; do sleep 0.05; done", tmp_path / "started")
    processes.launch(stubborn, tmp_path, tethered=True)
    processes.wait_ready(stubborn, tmp_path, timeout_s=5)
    processes.stop(["sh"], tmp_path, timeout_s=0.1)
    assert caplog.messages == ["server did not stop in time and was killed"]
    assert not processes.is_running("sh", tmp_path)


def test_a_tethered_program_gets_its_own_signal_when_who_started_it_is_gone(tmp_path: Path) -> None:
    """A container's keeper must live on for a moment: it has something to take along."""
    started, told = tmp_path / "started", tmp_path / "told"
    script = f"trap 'echo > {told}; exit' HUP; echo > started; while :; do sleep 0.05; done"
    keeper = replace(a_program(script, started), tether="HUP")

    def start() -> None:
        processes.launch(keeper, tmp_path, tethered=True)
        processes.wait_ready(keeper, tmp_path, timeout_s=5)

    thread = Thread(target=start)
    thread.start()
    thread.join()
    deadline = time.monotonic() + 5
    while processes.is_running("sh", tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert told.exists()


def test_rabbitmq_is_told_every_limit() -> None:
    conf = rabbitmq.configuration(Record.fresh(), definitions=None)
    limits = {
        "vm_memory_high_watermark.absolute",
        "disk_free_limit.absolute",
        "max_message_size",
        "consumer_timeout",
        "heartbeat",
    }
    assert limits <= {line.split(" = ")[0] for line in conf.splitlines()}
    assert "load_definitions" not in conf
