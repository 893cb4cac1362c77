"""Options that many commands have."""

import json
from pathlib import Path
from typing import Annotated

import typer
from pydantic import JsonValue

from agents.operator.errors import CommandFailed

Dir = Annotated[Path, typer.Option("--dir", help="where the stack keeps its data, ports and passwords")]
AsJson = Annotated[bool, typer.Option("--json", help="for a script: JSON instead of tables")]

DIR = Path(".warren")


def told_object(text: str, option: str) -> dict[str, JsonValue]:
    """The JSON object that was given with this option."""
    try:
        told = json.loads(text)
    except json.JSONDecodeError as error:
        raise CommandFailed(f"{option} takes a JSON object: {error}") from None
    if not isinstance(told, dict):
        raise CommandFailed(f"{option} takes a JSON object, like {{}}")
    return told
