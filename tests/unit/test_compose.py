"""The production files say what the code reads: no engine is needed to see that."""

import csv
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic_settings import BaseSettings

from agents.operator.app import create_app
from agents.operator.settings import InstallSettings
from services.aggregator.settings import Settings as AggregatorSettings
from services.api.settings import Settings as ApiSettings
from services.scheduler.settings import Settings as SchedulerSettings

ROOT = Path(__file__).parents[2]
COMPOSE = (ROOT / "infra/compose.yaml").read_text()
DOCKERFILE = (ROOT / "infra/Dockerfile").read_text()
SERVICES: dict[str, Any] = yaml.safe_load(COMPOSE)["services"]
SETTINGS: dict[str, type[BaseSettings]] = {
    "prepare": InstallSettings,
    "api": ApiSettings,
    "scheduler": SchedulerSettings,
    "aggregator": AggregatorSettings,
}


@pytest.mark.parametrize("service", SETTINGS)
def test_a_service_is_given_settings_it_has_and_all_that_it_needs(service: str) -> None:
    settings = SETTINGS[service]
    prefix = settings.model_config["env_prefix"]
    ours = (name for name in SERVICES[service]["environment"] if name != "TMPDIR")
    given = {name.removeprefix(prefix).lower() for name in ours}
    needed = {name for name, field in settings.model_fields.items() if field.is_required()}
    assert needed <= given <= set(settings.model_fields)


def test_every_service_of_ours_has_an_image_and_waits_for_the_preparation() -> None:
    targets = set(re.findall(r"^FROM base AS (\w+)$", DOCKERFILE, re.MULTILINE))
    built = {name: service["build"]["target"] for name, service in SERVICES.items() if "build" in service}
    assert set(built) == set(SETTINGS)
    assert set(built.values()) <= targets
    assert all("prepare" in SERVICES[name]["depends_on"] for name in built if name != "prepare")


def test_every_image_installs_an_extra_that_exists() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    installed = re.findall(r'"\.\[(\w+)\]"', DOCKERFILE)
    assert len(installed) == DOCKERFILE.count("FROM base AS")
    assert set(installed) <= set(extras)


def test_every_password_is_asked_for_in_the_example() -> None:
    example = dict(
        line.split("=", 1)
        for line in (ROOT / "infra/.env.example").read_text().splitlines()
        if line and line[0] != "#"
    )
    assert set(re.findall(r"\$\{(\w+):\?\}", COMPOSE)) == {
        name for name, value in example.items() if not value
    }


def test_the_store_takes_login_and_key_as_one_value() -> None:
    """rclone reads the variable as a line of CSV: without quotes of its own it would be two."""
    assert list(csv.reader([SERVICES["s3"]["environment"]["RCLONE_AUTH_KEY"]])) == [
        ["warren,${S3_SECRET_KEY:?}"]
    ]


def test_the_agent_keeps_its_data_in_the_volume_of_its_image() -> None:
    folder = re.search(r"^ENV WARREN_AGENT_DATA=(\S+)$", DOCKERFILE, re.MULTILINE)
    assert folder
    assert f"\nVOLUME {folder[1]}\n" in DOCKERFILE


def test_the_preparation_runs_a_command_there_is() -> None:
    commands = {command.callback.__name__ for command in create_app().registered_commands if command.callback}
    assert set(SERVICES["prepare"]["command"]) <= commands
