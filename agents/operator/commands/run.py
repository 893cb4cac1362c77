"""`warren api`, `scheduler`, `aggregator` and `agent`: one process, in the foreground."""

import os
import sys
from pathlib import Path
from typing import Any

import typer

from agents.operator import services
from agents.operator.deployment import Deployment
from agents.operator.errors import NothingRunning
from agents.operator.options import DIR, Dir
from agents.operator.settings import full_environment

_PASSED_ON: dict[str, Any] = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "help_option_names": [],
}


def add_to(app: typer.Typer) -> None:
    for command in (api, scheduler, aggregator):
        app.command()(command)
    app.command(context_settings=_PASSED_ON)(agent)


def api(root: Dir = DIR) -> None:
    """Run the REST API here.  WARREN_API_… sets what it needs; the stack under --dir the rest."""
    _become("services.api", env=_environment("api", root))


def scheduler(root: Dir = DIR) -> None:
    """Run a scheduler here.  WARREN_SCHEDULER_… sets what it needs; the stack under --dir the rest."""
    _become("services.scheduler", env=_environment("scheduler", root))


def aggregator(root: Dir = DIR) -> None:
    """Run an aggregator worker here.  WARREN_AGGREGATOR_… sets what it needs; --dir the rest."""
    _become("services.aggregator", env=_environment("aggregator", root))


def agent(context: typer.Context) -> None:
    """Run a site's agent here; `warren agent --help` lists its options."""
    _become("agents.client", *context.args, env=full_environment())


def _environment(service: str, root: Path) -> dict[str, str]:
    try:
        found = Deployment.find(root)
    except NothingRunning:  # then everything is in the environment, or the service will say what is not
        return full_environment()
    return {**services.environment(service, found.endpoints, found.logins), **full_environment()}


def _become(module: str, *arguments: str, env: dict[str, str]) -> None:
    os.execve(sys.executable, (sys.executable, "-m", module, *arguments), env)  # noqa: S606 - our own module
