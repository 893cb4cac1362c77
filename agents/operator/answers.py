"""What the API answers, as far as an operator looks at it."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from schemas.words import TrainingState


class Answer(BaseModel):
    """Fields we do not know are of no interest."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class User(Answer):
    id: UUID
    username: str
    first_name: str = ""
    last_name: str = ""
    actor: bool
    client: bool


class Credentials(Answer):
    """Shown once; the content of an agent's credentials file."""

    client_id: UUID
    amqp_url: str
    queue: str


class Newcomer(User):
    token: str
    credentials: Credentials | None = None


class Client(Answer):
    id: UUID
    username: str
    enrolled_at: datetime
    revoked_at: datetime | None
    seen_at: datetime | None
    tasks_in_hand: int
    leaving: bool
    version: str


class Model(Answer):
    id: UUID
    name: str
    version: int
    sha256: str
    size: int


class Training(Answer):
    id: UUID
    model: UUID
    participants: tuple[UUID, ...]
    status: TrainingState
    reason: str | None
    round: int | None
    attempt: int | None
    phase: str | None
    created_at: datetime
    local_models_arrived: int
    local_models_expected: int
    rounds_completed: int
    best_version: int | None = None
    metrics: dict[str, float]
    plan: dict[str, Any]  # a `Plan`; shown, not read

    @property
    def rounds(self) -> int:
        return int(self.plan["rounds"])

    @property
    def is_over(self) -> bool:
        return self.status in {TrainingState.COMPLETED, TrainingState.FAILED, TrainingState.ABORTED}


class Round(Answer):
    round: int
    attempt: int
    state: str
    expected: int
    arrived: int
    accepted: int
    sha256: str | None
    metrics: dict[str, float]
    started_at: datetime
    ended_at: datetime | None
