"""Where the command says what it has to say."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel
from rich.console import Console

_WIDE = 200  # where nobody's window limits it, nothing is cut off


def _console() -> Console:
    console = Console(highlight=False, emoji=False)
    return console if console.is_terminal else Console(highlight=False, emoji=False, width=_WIDE)


out = _console()
err = Console(stderr=True, highlight=False, emoji=False)


def say(text: str) -> None:
    """One line as it is: no colours, no wrapping."""
    out.print(text, markup=False, soft_wrap=True)


def say_json(value: Any) -> None:  # whatever JSON can hold
    say(json.dumps(value, default=str))


def say_encoded(body: bytes) -> None:
    """A message in JSON, as it was published."""
    say(body.decode())


def tell(facts: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """The same to a script or to a person."""
    if as_json:
        say_json(facts)
    else:
        say(text)


def say_models(answers: Iterable[BaseModel]) -> None:
    say_json([answer.model_dump(mode="json") for answer in answers])
