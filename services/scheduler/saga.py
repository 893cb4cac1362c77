"""One step of a training: messages in; events and orders out."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from schemas.events import Event
from schemas.ids import MessageId
from schemas.routing import TO_SCHEDULER
from services.scheduler.decide import Input, decide
from services.scheduler.evolve import evolve
from services.scheduler.orders import Order, Settle
from services.scheduler.react import react
from services.scheduler.state import Training

OPERATOR_COMMANDS = tuple(route.message for route in TO_SCHEDULER.values())


@dataclass(frozen=True, slots=True)
class Received:
    """A message as it came in, and the id by which what it causes refers to it."""

    id: MessageId
    message: Input


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event at its place in the training's history, because of a message."""

    seq: int
    event: Event
    cause: MessageId


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be kept together or not at all."""

    training: Training | None
    events: tuple[Recorded, ...] = ()
    orders: tuple[Order, ...] = ()


def step(training: Training | None, received: Iterable[Received], now: datetime) -> Step:
    """Take messages one after the other.  Taking them in one step or in many gives the same events."""
    events: list[Recorded] = []
    orders: list[Order] = []
    for each in received:
        for event in decide(training, each.message, now):
            training = evolve(training, event)
            events.append(Recorded(training.seq, event, each.id))
            orders.extend(react(training, event))
        if isinstance(each.message, OPERATOR_COMMANDS) and training is not None:
            orders.append(Settle((each.id,)))  # answered, whatever came of it; before its start it waits
    return Step(training, tuple(events), tuple(orders))
