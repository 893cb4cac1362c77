"""What callers get."""

from base64 import b64encode
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from schemas.words import TrainingState


class Answer(BaseModel):
    model_config = ConfigDict(frozen=True, from_attributes=True)


class PublicUser(Answer):
    id: UUID
    username: str
    first_name: str
    last_name: str
    actor: bool
    client: bool


class User(PublicUser):
    email: str
    message_endpoint: str


class Credentials(Answer):
    """What a site's agent needs, as its credentials file has it.  Shown once."""

    client_id: UUID
    amqp_url: str
    queue: str


class Newcomer(User):
    token: str


class EnrolledNewcomer(Newcomer):
    """`token` and `credentials` are shown this once."""

    credentials: Credentials


class NewToken(Answer):
    token: str


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
    """`round` is the newest version, under the demonstrator's name."""

    id: UUID
    owner: UUID
    name: str
    description: str
    input_shape: list[int | None] | None
    round: int
    version: int
    sha256: str
    size: int
    training: UUID | None
    created_at: datetime


class TensorStats(Answer):
    name: str
    dtype: str
    shape: tuple[int, ...]
    parameters: int


class ModelStats(Answer):
    parameters: int
    bytes: int
    tensors: tuple[TensorStats, ...]


class ModelMetadata(Model):
    has_preprocessing: bool = False
    stats: ModelStats


class ModelVersion(Answer):
    version: int
    training: UUID | None
    sha256: str
    size: int
    created_at: datetime


class Metric(Answer):
    id: int
    identifier: str
    key: str
    value_float: float | None
    value_binary: Annotated[bytes, PlainSerializer(lambda raw: b64encode(raw).decode())] | None
    step: int
    model: UUID
    reporter: UUID | None


class Training(Answer):
    """The demonstrator's fields, then ours: `status` is our word for what `state` has a letter for."""

    id: UUID
    model: UUID
    actor: UUID
    participants: list[UUID]
    state: str
    target_num_updates: int
    last_update: datetime
    uncertainty_method: str
    aggregation_method: str
    options: dict[str, Any]  # as it was validated when the training was created
    locked: bool = False

    status: TrainingState
    reason: str | None
    round: int | None
    attempt: int | None
    phase: str | None
    created_at: datetime
    start_requested_at: datetime | None
    local_models_arrived: int
    local_models_expected: int
    rounds_completed: int
    best_version: int | None  # by the metric that the plan selects by
    metrics: dict[str, float]  # of the last evaluation
    strategy: dict[str, Any]  # its name and all of its options
    plan: dict[str, Any]  # a `Plan`, as it was validated when the training was created


class Round(Answer):
    round: int
    attempt: int
    state: str
    expected: int
    arrived: int
    accepted: int
    sha256: str | None
    metrics: dict[str, float]
    train_metrics: dict[str, float]  # means of what the clients said of their training
    started_at: datetime
    ended_at: datetime | None


class Done(Answer):
    detail: str


class ModelCreated(Done):
    model_id: UUID


class TrainingCreated(Done):
    training_id: UUID


class Health(Answer):
    status: str
    missing: list[str] = Field(default_factory=list)
