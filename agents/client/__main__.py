"""Starts a site's agent: `python -m agents.client --credentials FILE --script FILE`."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from agents.client.app import run
from agents.client.settings import PREFIX, Settings


def main(  # noqa: PLR0913, PLR0917 -- the options of a command line
    credentials: Annotated[Path | None, typer.Option(help="the JSON that enrolment gave")] = None,
    data: Annotated[
        Path | None, typer.Option(help="journal, models and updates; one folder per agent")
    ] = None,
    script: Annotated[Path | None, typer.Option(help="the training script")] = None,
    trainer: Annotated[str | None, typer.Option(help="or the trainer class, package.module:Class")] = None,
    executor: Annotated[str | None, typer.Option(help="the interpreter that runs the script")] = None,
    workdir: Annotated[Path | None, typer.Option(help="where user code runs")] = None,
    preload: Annotated[
        list[str] | None, typer.Option(help="module to import once, ahead of the script")
    ] = None,
    policy: Annotated[Path | None, typer.Option(help="TOML: accept, refuse, max_model_mb")] = None,
) -> None:
    """Takes part in trainings for one site, until it is told to stop.  WARREN_AGENT_… sets the rest."""
    given = {name: value for name, value in locals().items() if value}
    try:
        settings = Settings(**given)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        typer.echo(f"these settings do not work (options, or {PREFIX}…): {'; '.join(faults)}", err=True)
        raise typer.Exit(2) from None
    raise typer.Exit(run(settings))


if __name__ == "__main__":
    typer.run(main)
