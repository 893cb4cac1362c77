"""The demo's four sites: enrolled through REST, each with an agent of its own."""

import sys
from collections.abc import Mapping
from pathlib import Path

from agents.operator.answers import Credentials
from agents.operator.demo import course, example
from agents.operator.logins import write_secret
from agents.operator.rest import Api
from infra.stack.processes import Program

_WARM = ("numpy", "torch", "safetensors.torch")  # what the sites' script takes long to import


def enrol(api: Api, root: Path) -> None:
    """Their credentials are in their folders afterwards, new ones in every run."""
    there = {client.id for client in api.clients()}
    for client, name in course.NAMES.items():
        credentials = api.renew_credentials(client) if client in there else _newcomer(api, name)
        write_secret(_credentials(root, name), credentials.model_dump_json())


def agents(root: Path, data: Path, inherited: Mapping[str, str]) -> tuple[Program, ...]:
    return tuple(_agent(name, root, data, inherited) for name in course.SITES)


def _newcomer(api: Api, name: str) -> Credentials:
    newcomer = api.add_user(name, client=True, id=str(course.site_id(name)))
    assert newcomer.credentials, "a new client gets credentials"
    return newcomer.credentials


def _agent(name: str, root: Path, data: Path, inherited: Mapping[str, str]) -> Program:
    """One core for each: with more threads than cores, four trainings at a time only get slower."""
    settings = {"DIGITS_DATA": str(data / name), "OMP_NUM_THREADS": "1", "WARREN_AGENT_GRACE_S": "2"}
    warm = (option for module in _WARM for option in ("--preload", module))
    return Program(
        name=f"agent-{name}",
        argv=(
            *(sys.executable, "-m", "agents.client"),
            *("--credentials", str(_credentials(root, name))),
            *("--data", str(_folder(root, name) / "agent")),
            *("--script", str(example.FOLDER / "site.py")),
            *warm,
        ),
        env={**inherited, **settings},
        is_ready=lambda: True,
    )


def _credentials(root: Path, name: str) -> Path:
    return _folder(root, name) / "credentials.json"


def _folder(root: Path, name: str) -> Path:
    return root / "sites" / name
