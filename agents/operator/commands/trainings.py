"""`warren trainings`: plan, start, watch, abort."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer

from agents.operator import place, tables
from agents.operator.console import out, say, say_json, say_models, tell
from agents.operator.errors import CommandFailed
from agents.operator.options import DIR, AsJson, Dir, told_object
from agents.operator.recomputing import recomputed, verdict_line
from agents.operator.rest import Api
from agents.operator.watching import lines, screen
from agents.operator.watching import watch as watch_training
from schemas.ids import ClientId
from schemas.words import TrainingState

group = typer.Typer(name="trainings", help="Plan, start, watch and abort trainings.")

_PATIENCE_S = 30.0  # of somebody who watches
Id = Annotated[UUID, typer.Argument(metavar="TRAINING")]


@group.command()
def create(  # noqa: PLR0913, PLR0917 -- the options of a command line
    model: Annotated[str, typer.Option(help="a safetensors or state_dict file, or the id of a model")],
    client: Annotated[list[str], typer.Option(help="name or id of a client; repeat it")],
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    min_clients: Annotated[int, typer.Option(min=1, help="updates that a round needs")] = 1,
    round_deadline_s: Annotated[float, typer.Option(min=1)] = 3600.0,
    evaluate_every: Annotated[int, typer.Option(min=0, help="rounds; 0 is never")] = 1,
    strategy: Annotated[str, typer.Option(help="see: warren strategies")] = "FedAvg",
    options: Annotated[str, typer.Option(help="of the strategy, as a JSON object")] = "{}",
    plan: Annotated[
        str, typer.Option(help='more of the plan, as a JSON object: {"norm_clip": 10, "update": "delta", …}')
    ] = "{}",
    config: Annotated[list[str] | None, typer.Option(help="NAME=VALUE for the user code; repeat it")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    start_it: Annotated[bool, typer.Option("--start", help="start it at once")] = False,
    root: Dir = DIR,
    as_json: AsJson = False,
) -> None:
    """Plan a training of a model over clients."""
    with place.api(root) as api:
        clients = [str(api.client_named(name).id) for name in client]
        body = {
            "model_id": str(_model(api, model)),
            "target_num_updates": rounds,
            "clients": clients,
            "participation": {"min_clients": min_clients, "round_deadline_s": round_deadline_s},
            "evaluation": {"every": evaluate_every},
            "config": _options(config or []),
            "seed": seed,
            "strategy": {**told_object(options, "--options"), "name": strategy},
            **told_object(plan, "--plan"),
        }
        training = api.add_training(body)
        if start_it:
            api.start(training)
    text = f"training {training} is {'starting' if start_it else 'created'}"
    tell({"id": training, "started": start_it}, text, as_json=as_json)


@group.command()
def start(training: Id, root: Dir = DIR, as_json: AsJson = False) -> None:
    """Start it."""
    with place.api(root) as api:
        api.start(training)
    _tell(training, "starting", as_json=as_json)


@group.command()
def watch(training: Id, root: Dir = DIR, as_json: AsJson = False) -> None:
    """Show it until it ends, with --json an event per line; exit 1 unless it was completed."""
    with place.api(root, _PATIENCE_S) as api:
        progress = watch_training(api, training, lines() if as_json else screen(_names(api)))
    if not as_json:
        out.print(tables.rounds_table(progress.rounds))
    if progress.state is not TrainingState.COMPLETED:
        raise CommandFailed(f"training {training} {progress.state}: {progress.reason}")


@group.command()
def show(training: Id, root: Dir = DIR, as_json: AsJson = False) -> None:
    """All about one."""
    with place.api(root) as api:
        found, rounds = api.training(training), api.rounds(training)
    if as_json:
        dumped = [done.model_dump(mode="json") for done in rounds]
        say_json({**found.model_dump(mode="json"), "rounds": dumped})
        return
    out.print(tables.trainings_table([found]))
    if found.reason:
        say(f"reason: {found.reason}")
    if found.best_version is not None:
        say(f"best version: {found.best_version}")
    out.print(tables.past_rounds_table(rounds))


@group.command()
def abort(
    training: Id,
    root: Dir = DIR,
    reason: Annotated[str, typer.Option()] = "aborted by an operator",
    as_json: AsJson = False,
) -> None:
    """End it now, without a result."""
    with place.api(root) as api:
        api.abort(training, reason)
    _tell(training, "aborting", as_json=as_json)


@group.command("list")
def every(root: Dir = DIR, as_json: AsJson = False) -> None:
    """Mine and those I take part in; all there are for the administrator."""
    with place.api(root) as api:
        found = api.trainings()
    if as_json:
        say_models(found)
    else:
        out.print(tables.trainings_table(found))


@group.command()
def verify(training: Id, root: Dir = DIR, as_json: AsJson = False) -> None:
    """Recompute every version of its model from the recorded updates; exit 1 if one comes out differently."""
    found = recomputed(training, root)
    if as_json:
        say_json(found)
    else:
        for each in found:
            say(verdict_line(each))
    raise typer.Exit(1 if any(each["faults"] for each in found) else 0)


def _tell(training: UUID, doing: str, *, as_json: bool) -> None:
    tell({"id": training, "doing": doing}, f"training {training} is {doing}", as_json=as_json)


def _model(api: Api, told: str) -> UUID:
    file = Path(told)
    if file.is_file():
        return api.add_model(file.stem, "uploaded by an operator", file)
    try:
        return UUID(told)
    except ValueError:
        raise CommandFailed(f"{told} is neither a file nor the id of a model") from None


def _options(told: list[str]) -> dict[str, Any]:
    """Numbers and booleans where the value reads as one."""
    return dict(_option(text) for text in told)


def _option(text: str) -> tuple[str, Any]:
    name, sign, value = text.partition("=")
    if not sign:
        raise CommandFailed(f"--config takes NAME=VALUE, not {text!r}")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _names(api: Api) -> Mapping[ClientId, str]:
    return {ClientId(client.id): client.username for client in api.clients()}
