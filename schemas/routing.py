"""One table: for each message its exchange, routing key, producers and consumers."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Any, get_args

from pydantic import Field

from schemas.commands import AggregatorCommand, ClientCommand, SchedulerCommand
from schemas.events import Event
from schemas.message import Message
from schemas.reports import AggregatorReport, ClientReport, Heartbeat


class Exchange(StrEnum):
    COMMANDS = "commands"
    CLIENTS = "clients"
    UPLINK = "uplink"
    EVENTS = "events"


class Role(StrEnum):
    """Who speaks or listens; a service's role is its broker login too."""

    API = "api"
    SCHEDULER = "scheduler"
    AGGREGATOR = "aggregator"
    CLIENT = "client"
    INTEGRATOR = "integrator"


SchedulerInput = Annotated[SchedulerCommand | AggregatorReport | ClientReport, Field(discriminator="type")]

# Headers of ours; `x-` belongs to the broker.
TRAINING_HEADER = "warren-training"
ATTEMPT_HEADER = "warren-attempt"
REASON_HEADER = "warren-reason"
ORIGIN_HEADER = "warren-origin"

REFUSED = "Refused"  # last word of a key on `uplink`: what a site refused of its own queue, as it came


@dataclass(frozen=True, slots=True)
class Route:
    """Where one kind of message goes.  `key` is a template over the message's fields and `sender`."""

    message: type[Message]
    exchange: Exchange
    key: str
    producers: tuple[Role, ...]
    consumers: tuple[Role, ...]

    @property
    def name(self) -> str:
        return self.message.__name__

    def key_for(self, message: Message, sender: str = "") -> str:
        return self.key.format(
            sender=sender, **{f: getattr(message, f) for f in _ID_FIELDS if hasattr(message, f)}
        )


_ID_FIELDS = ("client_id", "training_id")


def members(union: Any) -> tuple[type[Message], ...]:
    """The classes of a discriminated union, in the order they are written."""
    inner = get_args(union)[0]
    return get_args(inner) or (inner,)


def _routes(
    union: Any, exchange: Exchange, key: str, producers: tuple[Role, ...], consumers: tuple[Role, ...]
) -> Mapping[str, Route]:
    table = {
        kind.__name__: Route(kind, exchange, key.format(type=kind.__name__, **_KEEP), producers, consumers)
        for kind in members(union)
    }
    return MappingProxyType(table)


_KEEP = {"client_id": "{client_id}", "training_id": "{training_id}", "sender": "{sender}"}

TO_SCHEDULER = _routes(
    SchedulerCommand, Exchange.COMMANDS, "scheduler.{type}", (Role.API, Role.SCHEDULER), (Role.SCHEDULER,)
)
TO_AGGREGATOR = _routes(
    AggregatorCommand, Exchange.COMMANDS, "aggregator.{type}", (Role.SCHEDULER,), (Role.AGGREGATOR,)
)
TO_CLIENTS = _routes(ClientCommand, Exchange.CLIENTS, "{client_id}", (Role.SCHEDULER,), (Role.CLIENT,))
FROM_CLIENTS = _routes(ClientReport, Exchange.UPLINK, "{sender}.{type}", (Role.CLIENT,), (Role.SCHEDULER,))
FROM_AGGREGATOR = _routes(
    AggregatorReport, Exchange.UPLINK, "{sender}.{type}", (Role.AGGREGATOR,), (Role.SCHEDULER,)
)
EVENTS = _routes(
    Event, Exchange.EVENTS, "training.{training_id}.{type}", (Role.SCHEDULER,), (Role.INTEGRATOR,)
)

COMMANDS: Mapping[str, Route] = MappingProxyType({**TO_SCHEDULER, **TO_AGGREGATOR, **TO_CLIENTS})
REPORTS: Mapping[str, Route] = MappingProxyType({**FROM_CLIENTS, **FROM_AGGREGATOR})
TABLE: tuple[Route, ...] = (*COMMANDS.values(), *REPORTS.values(), *EVENTS.values())

PRESENCE = FROM_CLIENTS[Heartbeat.__name__]
