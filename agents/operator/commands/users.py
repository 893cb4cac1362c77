"""`warren users`: who may train."""

from typing import Annotated

import typer

from agents.operator import place, tables
from agents.operator.console import out, say, say_json, say_models, tell
from agents.operator.options import DIR, AsJson, Dir

group = typer.Typer(name="users", help="Who may use the API.")


@group.command()
def add(
    name: str,
    root: Dir = DIR,
    password: Annotated[
        str | None, typer.Option(envvar="WARREN_NEW_PASSWORD", help="else a random one: the token is enough")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a user who may own models and trainings.  The token is shown this once."""
    with place.api(root) as api:
        newcomer = api.add_user(name, password, actor=True)
    if as_json:
        say_json(newcomer.model_dump(mode="json", exclude={"credentials"}))
    else:
        say(f"user {newcomer.username} has id {newcomer.id}")
        say(f"token, shown this once: {newcomer.token}")


@group.command("list")
def every(root: Dir = DIR, as_json: AsJson = False) -> None:
    """Everybody."""
    with place.api(root) as api:
        found = api.users()
    if as_json:
        say_models(found)
    else:
        out.print(tables.users_table(found))


@group.command()
def revoke(
    user: Annotated[str, typer.Argument(help="name or id")], root: Dir = DIR, as_json: AsJson = False
) -> None:
    """Shut a user out for good: password and token are void; models and trainings stay."""
    with place.api(root) as api:
        found = api.user_named(user)
        api.revoke_user(found.id)
    facts = {"id": found.id, "username": found.username, "revoked": True}
    tell(facts, f"user {found.username} ({found.id}) is revoked", as_json=as_json)
