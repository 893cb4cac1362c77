"""How a broker's definitions differ from the ones it should have."""

from collections.abc import Iterable
from typing import Any

Definitions = dict[str, Any]

_IDENTITY = {
    "vhosts": ("name",),
    "exchanges": ("name",),
    "queues": ("name",),
    "bindings": ("source", "destination_type", "destination", "routing_key"),
    "policies": ("name",),
    "users": ("name",),
    "permissions": ("user",),
    "topic_permissions": ("user", "exchange"),
}
_WORDS = {
    "vhosts": "virtual host",
    "exchanges": "exchange",
    "queues": "queue",
    "bindings": "binding",
    "policies": "policy",
    "users": "login",
    "permissions": "permission",
    "topic_permissions": "topic permission",
}
_UNCOMPARED = {"password_hash", "hashing_algorithm"}  # salted: never the same twice


def differences(expected: Definitions, actual: Definitions, vhost: str) -> tuple[str, ...]:
    """A sentence for each expected entry that is missing or different; others are not judged."""
    return tuple(told for section in _IDENTITY for told in _of_section(section, expected, actual, vhost))


def _of_section(section: str, expected: Definitions, actual: Definitions, vhost: str) -> Iterable[str]:
    there = {
        _identity(section, entry): entry
        for entry in actual.get(section, ())
        if entry.get("vhost", vhost) == vhost
    }
    for wanted in expected.get(section, ()):
        name = _identity(section, wanted)
        told = f"{_WORDS[section]} {' '.join(filter(None, name))}"
        if name not in there:
            yield f"{told} is missing"
            continue
        for field, value in wanted.items():
            found = there[name].get(field)
            if field not in _UNCOMPARED and found != value:
                yield f"{told}: {field} is {found}, not {value}"


def _identity(section: str, entry: Definitions) -> tuple[str, ...]:
    return tuple(str(entry[field]) for field in _IDENTITY[section])
