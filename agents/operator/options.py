"""Options that many commands have."""

from pathlib import Path
from typing import Annotated

import typer

Dir = Annotated[Path, typer.Option("--dir", help="where the stack keeps its data, ports and passwords")]
AsJson = Annotated[bool, typer.Option("--json", help="for a script: JSON instead of tables")]

DIR = Path(".warren")
