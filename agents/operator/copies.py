"""Compares the event stream with the event table."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from agents.operator.stream import read

Numbered = tuple[UUID, int]


@dataclass
class Comparison:
    """Holds a mark per event, not the events' copies: the stream may be long."""

    table: Mapping[Numbered, bytes]
    repeats: int = 0
    strangers: int = 0  # of trainings that were deleted, or newer than what was read of the table
    different: set[Numbered] = field(default_factory=set)
    seen: set[Numbered] = field(default_factory=set)

    def look_at(self, body: bytes) -> None:
        told = read(body)
        number = (UUID(told["trainingid"]), int(told["sequence"]))
        if number not in self.table:
            self.strangers += 1
            return
        self.repeats += number in self.seen
        self.seen.add(number)
        if self.table[number] != body:
            self.different.add(number)

    @property
    def faults(self) -> tuple[str, ...]:
        missing = self.table.keys() - self.seen
        return (
            *_told("is not in the stream", missing),
            *_told("is another one in the stream than in the table", self.different),
        )


def _told(what: str, numbers: Iterable[Numbered]) -> tuple[str, ...]:
    return tuple(f"event {seq} of training {training} {what}" for training, seq in sorted(numbers))
