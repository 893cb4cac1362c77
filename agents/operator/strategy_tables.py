"""Tables of strategies: what a JSON Schema says, for people."""

from collections.abc import Iterable
from typing import Any

from rich.table import Table

from schemas.catalogue import Described

_BOUNDS = (("exclusiveMinimum", ">"), ("minimum", ">="), ("exclusiveMaximum", "<"), ("maximum", "<="))
_REFERENCE = "#/$defs/"


def strategies_table(known: Iterable[Described]) -> Table:
    table = Table("strategy", "what it does", "options", box=None, padding=(0, 2, 0, 0), header_style="bold")
    for one in known:
        table.add_row(one.name, one.summary, ", ".join(_properties(one)))
    return table


def options_table(one: Described) -> Table:
    table = Table("option", "type", "default", "range", box=None, padding=(0, 2, 0, 0), header_style="bold")
    required: Any = one.options.get("required", [])
    for name, told in _properties(one).items():
        schema = _resolved(told, one.options)
        default = "required" if name in required else _word(schema.get("default"))
        table.add_row(name, _kind(schema), default, _range(schema))
    return table


def _properties(one: Described) -> dict[str, Any]:
    found: Any = one.options.get("properties", {})
    return dict(found)


def _resolved(schema: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    """With what it refers to, and of several forms the first one."""
    if reference := schema.get("$ref"):
        return {**whole["$defs"][reference.removeprefix(_REFERENCE)], **schema}
    if forms := schema.get("anyOf"):
        return {**_resolved(forms[0], whole), "default": schema.get("default")}
    return schema


def _kind(schema: dict[str, Any]) -> str:
    if words := schema.get("enum"):
        return " | ".join(map(str, words))
    if schema.get("type") == "object" and isinstance(inner := schema.get("additionalProperties"), dict):
        return f"object of {_kind(inner)}s"
    return str(schema.get("type", "any"))


def _range(schema: dict[str, Any]) -> str:
    inner = schema.get("additionalProperties")
    bounded = inner if isinstance(inner, dict) else schema
    return ", ".join(f"{sign} {bounded[bound]}" for bound, sign in _BOUNDS if bound in bounded)


def _word(value: Any) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return str(value).lower()
        case _:
            return str(value)
