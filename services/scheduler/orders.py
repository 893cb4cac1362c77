"""What the saga asks of the world.  The store keeps orders together with the events that led to them."""

from dataclasses import dataclass
from datetime import datetime

from schemas.commands import AggregatorCommand, ClientCommand
from schemas.ids import MessageId
from schemas.timers import TimerMessage


@dataclass(frozen=True, slots=True)
class Send:
    """A command, published until it is answered (a notice: until the broker has it)."""

    id: MessageId
    command: ClientCommand | AggregatorCommand
    until_answered: bool = True


@dataclass(frozen=True, slots=True)
class StoreObject:
    """A small object that must lie in the store before later orders of the same step are sent."""

    id: MessageId
    key: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Settle:
    """These commands are answered or void: nobody sends them again."""

    ids: tuple[MessageId, ...]


@dataclass(frozen=True, slots=True)
class SettleAll:
    """Every command of the training that waits for an answer is void."""


@dataclass(frozen=True, slots=True)
class SetTimer:
    """The training's timer.  It has one at a time; a new one replaces it."""

    message: TimerMessage
    due_at: datetime


@dataclass(frozen=True, slots=True)
class ClearTimer:
    """The training waits for no moment any more."""


Order = Send | StoreObject | Settle | SettleAll | SetTimer | ClearTimer
