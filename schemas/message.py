"""What every word on the wire has in common."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from schemas.ids import ClientId, TaskId, TrainingId

MAX_EXAMPLES = 2**31 - 1
MAX_CLIENTS = 10_000
MAX_METRICS = 64
MAX_CONFIG = 64


def _without_nul(text: str) -> str:
    """PostgreSQL keeps no NUL in a text, and what a client says must not stop a transaction."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


Round = Annotated[int, Field(ge=0, le=1_000_000)]
Attempt = Annotated[int, Field(ge=1, le=1_000_000)]
Epoch = Annotated[int, Field(ge=1)]
Examples = Annotated[int, Field(ge=1, le=MAX_EXAMPLES)]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=4_000), AfterValidator(_without_nul)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
MetricName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,63}$")]
Version = Annotated[str, StringConstraints(max_length=64), AfterValidator(_without_nul)]
Metrics = Annotated[dict[MetricName, float], Field(max_length=MAX_METRICS)]
OptionValue = bool | int | float | Annotated[str, StringConstraints(max_length=1_000)]
UserConfig = Annotated[dict[MetricName, OptionValue], Field(max_length=MAX_CONFIG)]


class Words(BaseModel):
    """A frozen value that refuses unknown fields, wrong types, NaN and infinities."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class Message(Words):
    """A command orders one addressee; an event or report tells that something happened.

    `type` is the wire name and the same as the class name.
    """

    type: str


class TrainingMessage(Message):
    """A message about one training: it is partitioned, ordered and answered by `training_id`."""

    training_id: TrainingId


class TaskMessage(TrainingMessage):
    """A message about one task of one client."""

    task_id: TaskId
    client_id: ClientId
    round: Round
