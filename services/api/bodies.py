"""What callers send as JSON."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, ValidationError

from schemas.commands import Clients
from schemas.ids import ModelId
from schemas.message import MetricName, Reason, UserConfig, Words
from schemas.plan import BUFFERS, MIB, BestModel, Evaluation, Participation, TensorPattern
from schemas.words import UpdateKind
from services.api.errors import BadInput

B = TypeVar("B", bound=BaseModel)

_NO_NUL = r"^[^\x00]*$"  # PostgreSQL keeps no NUL
Name = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=_NO_NUL)]
Line = Annotated[str, StringConstraints(max_length=256, pattern=_NO_NUL)]
Text = Annotated[str, StringConstraints(max_length=16_384, pattern=_NO_NUL)]
Username = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_@.+-]{1,150}$")]
Secret = Annotated[str, StringConstraints(min_length=1, max_length=1_024)]
Endpoint = Annotated[str, StringConstraints(max_length=2_048, pattern=r"^(https?://[^\s\x00]+)?$")]


class NewUser(Words):
    username: Username
    password: Secret = Field(repr=False)
    message_endpoint: Endpoint = ""
    first_name: Line = ""
    last_name: Line = ""
    email: Line = ""
    actor: bool = False
    client: bool = False
    id: UUID | None = None  # only where the operator lets clients choose


class PasswordChange(Words):
    password: Secret = Field(repr=False)


class UncertaintyOptions(Words):
    model_config = ConfigDict(title="UncertaintyOptions")

    N: int = Field(default=10, ge=1, le=10_000)
    softmax: bool = False


class Options(Words):
    """What the demonstrator's clients may set; `uncertainty` has a bearing on inference only."""

    uncertainty: UncertaintyOptions | None = None
    daisy_chain_period: int | None = Field(default=None, ge=0, le=1_000_000)  # rounds between two means


class AskedStrategy(Words):
    """One of `GET /api/strategies/` by its name, with its options beside that."""

    model_config = ConfigDict(extra="allow", title="AskedStrategy")
    __pydantic_extra__: dict[str, JsonValue]

    name: Annotated[str, StringConstraints(max_length=64)]


class NewTraining(Words):
    """The demonstrator's fields, then ours; together they make a `Plan`.

    `strategy` says in full what `aggregation_method` only names.
    """

    model_id: ModelId
    target_num_updates: int
    metric_names: Annotated[tuple[MetricName, ...], Field(max_length=64)] = ()
    aggregation_method: str | None = None
    uncertainty_method: Literal["NONE", "ENSEMBLE", "MC_DROPOUT", "SWAG"] = "NONE"
    options: Options = Options()
    clients: Clients = ()

    strategy: AskedStrategy | None = None
    update: UpdateKind = UpdateKind.WEIGHTS
    partial: bool = False
    norm_clip: float | None = None
    buffers: tuple[TensorPattern, ...] = BUFFERS
    best: BestModel | None = None
    participation: Participation = Participation()
    evaluation: Evaluation = Evaluation()
    config: UserConfig = Field(default_factory=dict)
    seed: int = 0
    shard_bytes: int = 16 * MIB


class ClientList(Words):
    clients: Annotated[Clients, Field(min_length=1)]


class Abort(Words):
    reason: Reason = "aborted by its owner"


def body_of(model: type[B], *, optional: bool = False) -> Callable[[Request], Awaitable[B]]:
    """A dependency: the body's own bytes as `model`.  Read otherwise, NaN and wrong types get in."""

    async def read(request: Request) -> B:
        raw = await request.body()
        if optional and not raw:
            return model()
        try:
            return model.model_validate_json(raw)
        except ValidationError as error:
            raise BadInput.told_by(error) from None

    return read


def described_by(model: type[BaseModel]) -> dict[str, Any]:
    """The OpenAPI entry of a body that `body_of` reads."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
