"""The `warren` command where nothing runs: one clear line, and no traceback."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from typer.main import get_command

from agents.operator.__main__ import main
from agents.operator.app import create_app

Warren = Callable[..., int]
NOBODY = str(UUID(int=0))
WITHOUT_JSON = {  # and why
    ("demo",): "a show for people; its last line can be read by a script",
    ("api",): "becomes a service, which logs",
    ("scheduler",): "becomes a service, which logs",
    ("aggregator",): "becomes a service, which logs",
    ("agent",): "becomes an agent, which logs",
}


@pytest.fixture
def warren(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Warren:
    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["warren", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    monkeypatch.chdir(tmp_path)
    return run


@pytest.mark.parametrize(
    "command",
    [
        ("down",),
        ("status", "--json"),
        ("topology", "check"),
        ("users", "list"),
        ("clients", "add", "ana"),
        ("trainings", "show", NOBODY),
        ("events", "verify"),
        ("events", "export", "--from", "stream"),
        ("down", "--json"),
        ("topology", "declare", "--json"),
        ("users", "revoke", "eva", "--json"),
        ("clients", "revoke", "ana", "--json"),
        ("integrators", "remove", "hospital", "--json"),
        ("trainings", "watch", NOBODY, "--json"),
    ],
)
def test_where_nothing_runs_it_says_how_to_start(
    warren: Warren, command: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    assert warren(*command) == 1
    said, complained = capfd.readouterr()
    assert said == ""
    assert complained == "nothing is running under .warren; start it with: warren up\n"


def test_the_directory_that_was_asked_for_is_in_the_advice(
    warren: Warren, capfd: pytest.CaptureFixture[str]
) -> None:
    assert warren("status", "--dir", "elsewhere") == 1
    assert "start it with: warren up --dir elsewhere" in capfd.readouterr().err


def test_an_api_elsewhere_that_does_not_answer_is_named(
    warren: Warren, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WARREN_API_URL", "http://127.0.0.1:1")
    assert warren("trainings", "list") == 1
    assert "the API at http://127.0.0.1:1 does not answer" in capfd.readouterr().err


def test_an_address_that_is_none_is_refused(
    warren: Warren, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WARREN_API_URL", "somewhere")
    assert warren("trainings", "list") == 1
    assert capfd.readouterr().err.startswith("the environment cannot be used: WARREN_API_URL: ")


def test_every_command_has_help(warren: Warren, capfd: pytest.CaptureFixture[str]) -> None:
    for command in ("up", "demo", "topology", "users", "clients", "trainings", "events", "api"):
        assert warren(command, "--help") == 0
    assert "--json" in shown(warren, capfd, "status", "--help")


def test_every_command_speaks_to_scripts_where_there_is_something_to_say() -> None:
    silent = {path for path, options in options_of(get_command(create_app())) if "--json" not in options}
    assert silent == WITHOUT_JSON.keys()


def options_of(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """Of each command that does something, and not of the groups they are in."""
    if below := getattr(command, "commands", None):
        for name, each in below.items():
            yield from options_of(each, (*path, name))
    else:
        yield path, [option for parameter in command.params for option in parameter.opts]


def shown(warren: Warren, capfd: pytest.CaptureFixture[str], *command: str) -> str:
    capfd.readouterr()
    warren(*command)
    return capfd.readouterr().out
