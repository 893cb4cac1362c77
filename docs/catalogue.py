"""Pages for people: the catalogue of messages, and its short form in the README."""

from collections.abc import Iterable, Iterator
from inspect import cleandoc
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from schemas.message import Message
from schemas.routing import REFUSED, TABLE, Exchange, Role, Route

INTRODUCTION = """\
# Messages

Written by `python -m docs.generate` from `schemas/routing.py`; do not edit.

Every message is a CloudEvents 1.0 envelope in structured JSON (`schemas/envelope.py`) around the fields
below.  As machines read it: [asyncapi.yaml](asyncapi.yaml), and in [schemas/](schemas) one JSON Schema each.
"""

ABOUT = {
    Exchange.COMMANDS: "Orders to services.  An order that nobody takes comes back to who sent it.",
    Exchange.CLIENTS: "Orders to sites: the key is the client's id, and leads to that client's queue only.",
    Exchange.UPLINK: "What clients and workers report to the scheduler, under their own login.  "
    f"With key `{{client_id}}.{REFUSED}` comes, as it was, what a client refuses of its own queue; "
    "that ends in the queue `dead-letters`, with the reason in a header.",
    Exchange.EVENTS: "What has happened to a training, in order and without gaps: `sequence` counts from 1.",
}


def meaning(message: type[Message]) -> str:
    """All that the class says about itself, as one line."""
    return " ".join(cleandoc(message.__doc__ or "").split())


def messages_page() -> str:
    return "\n".join([INTRODUCTION, *(line for exchange in Exchange for line in _section(exchange))])


def readme_table() -> str:
    rows = (
        f"| `{name}` | {_path(routes)} | {meaning(routes[0].message)} |"
        for name, routes in _by_name().items()
    )
    return "\n".join(["| message | from → to | meaning |", "| --- | --- | --- |", *rows])


def _by_name() -> dict[str, list[Route]]:
    found: dict[str, list[Route]] = {}
    for route in TABLE:
        found.setdefault(route.name, []).append(route)
    return found


def _path(routes: Iterable[Route]) -> str:
    return "; ".join(f"{_names(route.producers)} → {_names(route.consumers)}" for route in routes)


def _names(roles: Iterable[Role]) -> str:
    return ", ".join(roles)


def _section(exchange: Exchange) -> Iterator[str]:
    yield f"## Exchange `{exchange}`\n\n{ABOUT[exchange]}\n"
    for route in TABLE:
        if route.exchange is exchange:
            yield from _entry(route)


def _entry(route: Route) -> Iterator[str]:
    yield f"### {route.name}\n\n{meaning(route.message)}\n"
    yield f"Key `{route.key}`, from {_names(route.producers)} to {_names(route.consumers)}.\n"
    yield "| field | type | |\n| --- | --- | --- |"
    for name, field in route.message.model_fields.items():
        if name != "type":
            need = "required" if field.is_required() else "optional"
            yield f"| `{name}` | {_type(field.annotation)} | {need} |"
    yield ""


def _type(kind: Any) -> str:
    """A type as a reader would say it; limits are in the JSON Schema."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _type(arguments[0])
    if origin in {Union, UnionType}:
        return " or ".join("nothing" if each is type(None) else _type(each) for each in arguments)
    if origin is Literal:
        return " or ".join(f"`{each}`" for each in arguments)
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return "object"
    return str(kind.__name__)
