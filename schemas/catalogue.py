"""Which strategies there are, what each says of itself, and how one is made of what somebody asks for."""

import json
from collections.abc import Iterable, Mapping
from inspect import getdoc
from typing import ClassVar, get_args

from pydantic import BaseModel, ConfigDict, JsonValue

from schemas.refusal import Refusal
from schemas.strategies import Custom, Rule, Strategy

_UNION, _ = get_args(Strategy)
BUILT_IN: dict[str, type[Rule]] = {
    rule.model_fields["name"].default: rule for rule in get_args(_UNION) if rule is not Custom
}


class UnknownStrategy(Refusal):
    code: ClassVar[str] = "unknown_strategy"

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.name, self.known = name, tuple(known)
        super().__init__(f"there is no strategy {name[:64]!r} here; there are {', '.join(self.known)}")


class Described(BaseModel):
    """A strategy as callers see it; `options` is a JSON Schema, whose description has the formula."""

    model_config = ConfigDict(frozen=True)

    name: str
    summary: str
    options: dict[str, JsonValue]


def built_in() -> tuple[Described, ...]:
    return tuple(described(name, rule, rule) for name, rule in BUILT_IN.items())


def described(name: str, documented: object, options: type[BaseModel]) -> Described:
    """By the first paragraph of its docstring and its options, of which `name` is none."""
    text = getdoc(documented) or ""
    schema = options.model_json_schema()
    schema["description"] = text
    schema["title"] = name
    if issubclass(options, Rule):
        schema["properties"].pop("name", None)
    return Described(name=name, summary=" ".join(text.partition("\n\n")[0].split()), options=schema)


def strategy_named(name: str, options: Mapping[str, JsonValue]) -> Strategy:
    """One of ours with these options, said as in JSON.

    Raises pydantic's `ValidationError` if they are wrong.
    """
    if name not in BUILT_IN:
        raise UnknownStrategy(name, BUILT_IN)
    made: Strategy = BUILT_IN[name].model_validate_json(json.dumps({**options, "name": name}))  # type: ignore[assignment]  # each of them is one of the union's
    return made
