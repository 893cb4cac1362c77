"""`warren integrators`: third parties that follow the events at the broker."""

import asyncio
import secrets
from typing import Annotated

import typer

from agents.operator import preparation, services
from agents.operator.console import say, say_json, tell
from agents.operator.deployment import Deployment
from agents.operator.options import DIR, AsJson, Dir

group = typer.Typer(name="integrators", help="Third parties: a login that may read one queue of events.")


@group.command()
def add(
    name: str,
    root: Dir = DIR,
    bind: Annotated[
        list[str] | None,
        typer.Option(help="which events: training.<id>.<Type>, * for one word, # for any number; repeat it"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a queue and a login of its name.  The password is shown this once; `add` again gives a new one."""
    found = Deployment.find(root)
    password = secrets.token_urlsafe(24)
    queue = asyncio.run(_add(found, name, password, bind or ["training.#"]))
    url = services.broker_url(found.endpoints, queue, password)
    if as_json:
        say_json({"name": name, "amqp_url": url, "queue": queue})
    else:
        say(f"integrator {name} reads queue {queue}")
        say(f"url, shown this once: {url}")


@group.command()
def remove(name: str, root: Dir = DIR, as_json: AsJson = False) -> None:
    """Shut it out; its queue goes with what is in it."""
    asyncio.run(_remove(Deployment.find(root), name))
    tell({"name": name, "removed": True}, f"integrator {name} is removed", as_json=as_json)


async def _add(found: Deployment, name: str, password: str, bind: list[str]) -> str:
    async with preparation.broker_admin(found.endpoints.rabbit) as admin:
        return await admin.add_integrator(name, password, bind)


async def _remove(found: Deployment, name: str) -> None:
    async with preparation.broker_admin(found.endpoints.rabbit) as admin:
        await admin.remove_integrator(name)
