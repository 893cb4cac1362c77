"""`warren topology`: what the broker must have."""

import asyncio

import typer

from agents.operator import place, preparation
from agents.operator.console import say, say_json, tell
from agents.operator.options import DIR, AsJson, Dir

_AS_IT_MUST_BE = "the topology is as it must be"

group = typer.Typer(name="topology", help="Exchanges, queues, policies and logins of the broker.")


@group.command()
def declare(root: Dir = DIR, as_json: AsJson = False) -> None:
    """Make what is missing and put right what is different."""
    deployment = place.running(root, "rabbitmq")
    asyncio.run(preparation.declare(deployment.endpoints.rabbit, deployment.logins))
    tell({"declared": True}, _AS_IT_MUST_BE, as_json=as_json)


@group.command()
def check(root: Dir = DIR, as_json: AsJson = False) -> None:
    """Say what is missing, different or not running; exit 1 if anything is."""
    deployment = place.running(root, "rabbitmq")
    found = asyncio.run(preparation.check(deployment.endpoints.rabbit, deployment.logins))
    if as_json:
        say_json(list(found))
    else:
        say("\n".join(found) or _AS_IT_MUST_BE)
    raise typer.Exit(1 if found else 0)
