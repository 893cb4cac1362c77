"""What a local deployment remembers, and what it tells its services."""

import socket
import stat
from pathlib import Path

import pytest

from agents.operator import services
from agents.operator.logins import Logins, write_secret
from infra.stack.record import HOST, Record
from services.aggregator.settings import Settings as AggregatorSettings
from services.api.settings import Settings as ApiSettings
from services.scheduler.settings import Settings as SchedulerSettings

LOGINS = Logins(admin="an", scheduler="other", aggregator="secret", api_port=20_001)


@pytest.mark.parametrize(
    ("service", "settings"),
    [("api", ApiSettings), ("scheduler", SchedulerSettings), ("aggregator", AggregatorSettings)],
)
def test_each_service_understands_its_environment(
    service: str,
    settings: type[ApiSettings | SchedulerSettings | AggregatorSettings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    endpoints = Record.fresh().endpoints
    environment = services.environment(service, endpoints, LOGINS)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    understood = settings()
    assert understood.s3_url == endpoints.s3.url
    assert len(understood.model_fields_set) == len(environment)


def test_there_are_as_many_workers_as_asked_for() -> None:
    programs = services.programs(Record.fresh().endpoints, LOGINS, 3, {})
    names = [program.name for program in programs]
    assert names == ["api", "scheduler", "aggregator-1", "aggregator-2", "aggregator-3"]


def test_logins_are_the_same_after_a_restart_and_nobody_elses_business(tmp_path: Path) -> None:
    assert Logins.find(tmp_path) is None
    LOGINS.keep(tmp_path)
    assert Logins.find(tmp_path) == LOGINS
    assert mode(tmp_path / "services.json") == 0o600


def test_the_api_moves_off_a_port_that_is_taken() -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        assert LOGINS.model_copy(update={"api_port": port}).moved().api_port != port


def test_a_secret_is_secret_even_where_it_replaces_a_public_file(tmp_path: Path) -> None:
    file = tmp_path / "credentials.json"
    file.write_text("public")
    write_secret(file, "secret")
    assert (file.read_text(), mode(file)) == ("secret", 0o600)


def mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)
