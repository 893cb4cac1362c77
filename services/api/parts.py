"""What the API works with."""

from dataclasses import dataclass, field
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from infra.objects.store import ObjectStore
from infra.plugins import Rules
from schemas.ids import ClientId
from services.api.credentials import Passwords
from services.api.settings import Settings


class Enrolment(Protocol):
    """The broker's side of a client.  Every method may be repeated."""

    async def enrol_client(self, client_id: ClientId, password: str, queue: str) -> None: ...

    async def revoke_client(self, client_id: ClientId, queue: str) -> None: ...

    async def depths(self) -> dict[str, int]:
        """Answers if the broker's management does."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True)
class Parts:
    settings: Settings
    database: AsyncEngine
    files: ObjectStore
    broker: Enrolment
    passwords: Passwords
    rules: Rules = field(default_factory=dict)  # the operator's own

    def reading(self) -> AsyncConnection:
        """For what changes nothing: each statement is a transaction of its own, which saves round trips."""
        return self.database.execution_options(isolation_level="AUTOCOMMIT").connect()
