"""What a step means for the tables: messages to post, commands to forget, the timer."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from schemas.commands import AggregatorCommand, ClientCommand
from schemas.envelope import enclose, encode
from schemas.identity import event_id
from schemas.ids import MessageId, TrainingId
from schemas.routing import COMMANDS, EVENTS, TO_CLIENTS, Role
from services.scheduler.orders import ClearTimer, Order, Send, SetTimer, Settle, SettleAll, StoreObject
from services.scheduler.saga import Recorded, Step

OBJECTS = "objects"  # in place of an exchange: the post is a small object for the store
SOURCE = "scheduler"


@dataclass(frozen=True, slots=True)
class Post:
    """One row of the outbox."""

    id: MessageId
    training_id: TrainingId | None
    exchange: str
    routing_key: str
    body: bytes
    until_answered: bool = False


class Stamp(BaseModel):
    """What the broker's properties repeat of an envelope."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: str
    time: datetime


@dataclass(slots=True)
class Postings:
    """What one step adds to the tables and takes from them."""

    events: list[Post] = field(default_factory=list)
    posts: dict[MessageId, Post] = field(default_factory=dict)
    settled: set[MessageId] = field(default_factory=set)
    settles_all: bool = False
    timer: SetTimer | ClearTimer | None = None


def postings(training: TrainingId, step: Step, now: datetime) -> Postings:
    """Orders take effect in turn: what a later one settles is not posted at all."""
    found = Postings(events=[_event(training, recorded, now) for recorded in step.events])
    for order in step.orders:
        _apply(found, training, order, now)
    return found


def _apply(found: Postings, training: TrainingId, order: Order, now: datetime) -> None:
    match order:
        case Send():
            found.posts[order.id] = _command(training, order, now)
        case StoreObject():
            found.posts[order.id] = Post(order.id, training, OBJECTS, order.key, order.body)
        case Settle():
            _settle(found, order.ids)
        case SettleAll():
            found.settles_all = True
            found.posts = {id_: post for id_, post in found.posts.items() if not post.until_answered}
        case SetTimer() | ClearTimer():
            found.timer = order


def _settle(found: Postings, ids: Iterable[MessageId]) -> None:
    for each in ids:
        found.posts.pop(each, None)
        found.settled.add(each)


def _event(training: TrainingId, recorded: Recorded, now: datetime) -> Post:
    envelope = enclose(
        recorded.event,
        id=event_id(training, recorded.seq),
        source=SOURCE,
        time=now,
        subject=str(training),
        sequence=recorded.seq,
        causationid=recorded.cause,
    )
    route = EVENTS[recorded.event.type]
    return Post(envelope.id, training, route.exchange, route.key_for(recorded.event), encode(envelope))


def _command(training: TrainingId, order: Send, now: datetime) -> Post:
    route = COMMANDS[order.command.type]
    body = encode(
        enclose(order.command, id=order.id, source=SOURCE, time=now, subject=_addressee(order.command))
    )
    return Post(order.id, training, route.exchange, route.key_for(order.command), body, order.until_answered)


def _addressee(command: ClientCommand | AggregatorCommand) -> str:
    return str(getattr(command, "client_id", "")) if command.type in TO_CLIENTS else Role.AGGREGATOR
