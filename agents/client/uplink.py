"""What the agent says to the platform."""

from typing import Protocol

from agents.client.training import Report
from infra.broker.delivery import Delivery
from schemas.ids import MessageId
from schemas.reports import Heartbeat


class Uplink(Protocol):
    async def report(self, report: Report, message_id: MessageId) -> None:
        """Returns when the broker has confirmed it; tries for as long as it takes."""
        ...

    async def refuse(self, delivery: Delivery, reason: str) -> None:
        """Make it a dead letter that says why.  As with reports, it tries for as long as it takes."""
        ...

    async def beat(self, heartbeat: Heartbeat) -> None:
        """Tries once: the next sign of life says more than a late one."""
        ...


class MemoryUplink:
    """The twin that remembers what was said."""

    def __init__(self) -> None:
        self.reports: list[tuple[MessageId, Report]] = []
        self.refused: list[tuple[Delivery, str]] = []
        self.heartbeats: list[Heartbeat] = []

    async def report(self, report: Report, message_id: MessageId) -> None:
        self.reports.append((message_id, report))

    async def refuse(self, delivery: Delivery, reason: str) -> None:
        self.refused.append((delivery, reason))

    async def beat(self, heartbeat: Heartbeat) -> None:
        self.heartbeats.append(heartbeat)
