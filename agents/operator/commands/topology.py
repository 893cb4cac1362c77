"""`warren topology`: what the broker must have."""

import asyncio

import typer

from agents.operator import place, preparation
from agents.operator.console import say, say_json
from agents.operator.options import DIR, AsJson, Dir

group = typer.Typer(name="topology", help="Exchanges, queues, policies and logins of the broker.")


@group.command()
def declare(root: Dir = DIR) -> None:
    """Make what is missing and put right what is different."""
    deployment = place.running(root, "rabbitmq")
    asyncio.run(preparation.declare(deployment.endpoints.rabbit, deployment.logins))
    say("the topology is as it must be")


@group.command()
def check(root: Dir = DIR, as_json: AsJson = False) -> None:
    """Say what is missing, different or not running; exit 1 if anything is."""
    deployment = place.running(root, "rabbitmq")
    found = asyncio.run(preparation.check(deployment.endpoints.rabbit, deployment.logins))
    if as_json:
        say_json(list(found))
    else:
        say("\n".join(found) or "the topology is as it must be")
    raise typer.Exit(1 if found else 0)
