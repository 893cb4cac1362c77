"""`warren clients`: the sites."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from agents.operator import place, tables
from agents.operator.console import out, say, say_json, say_models, tell
from agents.operator.errors import CommandFailed
from agents.operator.logins import write_secret
from agents.operator.options import DIR, AsJson, Dir

group = typer.Typer(name="clients", help="Sites: enrolled, present, revoked.")


@group.command()
def add(
    name: str,
    root: Dir = DIR,
    out_file: Annotated[
        Path | None, typer.Option("--out", help="the credentials file; else NAME.json under --dir")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Enrol a site and write the credentials its agent needs: they exist this once."""
    file = out_file or root / "clients" / f"{Path(name).name}.json"
    if file.exists():
        raise CommandFailed(f"{file} exists already; name another file with --out")
    with place.api(root) as api:
        newcomer = api.add_user(name, client=True)
    assert newcomer.credentials, "a new client gets credentials"
    write_secret(file, newcomer.credentials.model_dump_json())
    if as_json:
        say_json({"id": newcomer.id, "username": newcomer.username, "credentials": file})
    else:
        say(f"client {newcomer.username} has id {newcomer.id}")
        say(f"its credentials, which nobody can show again: {file}")
        say(f"at the site: warren agent --credentials {file.name} --script your_training.py")


@group.command("list")
def every(root: Dir = DIR, as_json: AsJson = False) -> None:
    """All sites and whether they are there."""
    with place.api(root) as api:
        found = api.clients()
    if as_json:
        say_models(found)
    else:
        out.print(tables.clients_table(found, datetime.now(UTC)))


@group.command()
def revoke(
    client: Annotated[str, typer.Argument(help="name or id")], root: Dir = DIR, as_json: AsJson = False
) -> None:
    """Shut a site out for good: its login and queue go, its trainings go on without it."""
    with place.api(root) as api:
        found = api.client_named(client)
        api.revoke(found.id)
    facts = {"id": found.id, "username": found.username, "revoked": True}
    tell(facts, f"client {found.username} ({found.id}) is revoked", as_json=as_json)
