"""`warren strategies`: what a training may aggregate by."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from agents.operator import place
from agents.operator.console import out, say, say_json, say_models
from agents.operator.errors import NothingRunning
from agents.operator.options import DIR, AsJson, Dir
from agents.operator.strategy_tables import options_table, strategies_table
from schemas.catalogue import Described, UnknownStrategy, built_in


def strategies(
    name: Annotated[str | None, typer.Argument(help="one of them: its formula and its options")] = None,
    root: Dir = DIR,
    as_json: AsJson = False,
) -> None:
    """Strategies there are; the operator's own as well where a stack runs."""
    known = _known(root)
    if name is None:
        if as_json:
            say_models(known)
        else:
            out.print(strategies_table(known))
        return
    one = _named(name, known)
    if as_json:
        say_json(one.model_dump(mode="json"))
        return
    say(f"{one.name}\n\n{one.options['description']}\n")
    out.print(options_table(one))


def _known(root: Path) -> Sequence[Described]:
    try:
        with place.api(root) as api:
            return api.strategies()
    except NothingRunning:
        return built_in()


def _named(name: str, known: Sequence[Described]) -> Described:
    for one in known:
        if one.name.lower() == name.lower():
            return one
    raise UnknownStrategy(name, (one.name for one in known))
