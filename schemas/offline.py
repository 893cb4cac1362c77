"""A round over files: what is asked for, and what was done."""

from typing import Annotated

from pydantic import Field, JsonValue, StringConstraints

from schemas.ids import ClientId
from schemas.message import MAX_CLIENTS, Examples, Metrics, Round, Sha256, Words
from schemas.plan import BUFFERS, MIB, TensorPattern
from schemas.strategies import Strategy
from schemas.words import Extra, Slot, UpdateKind

FileName = Annotated[str, StringConstraints(min_length=1, max_length=4_096)]


class OfflineUpdate(Words):
    """`client` is an id, or a name that an id is made of; without one, the id is the place in the order."""

    file: FileName
    num_examples: Examples
    client: Annotated[str, StringConstraints(min_length=1, max_length=256)] | None = None
    metrics: Metrics = Field(default_factory=dict)


class OfflineRound(Words):
    """`strategy` is a name, or `package.module:function`.

    `state` and `state_out` are folders with a file per slot.  Without a `round` it is the one after that of
    the state, and the first one without a state.
    """

    strategy: Annotated[str, StringConstraints(min_length=1, max_length=512)] = "FedAvg"
    options: dict[str, JsonValue] = Field(default_factory=dict)
    current: FileName
    state: FileName | None = None
    updates: Annotated[tuple[OfflineUpdate, ...], Field(max_length=MAX_CLIENTS)]
    out: FileName
    state_out: FileName | None = None
    round: Round | None = None
    update: UpdateKind = UpdateKind.WEIGHTS
    partial: bool = False
    norm_clip: float | None = Field(default=None, gt=0)
    buffers: Annotated[tuple[TensorPattern, ...], Field(max_length=1_000)] = BUFFERS
    extra: Extra | None = None  # else what the strategy wants and the first update has
    shard_bytes: int = Field(default=16 * MIB, ge=8, le=64 * MIB, multiple_of=8)


class OfflineFile(Words):
    file: FileName
    sha256: Sha256
    size: int


class OfflineState(OfflineFile):
    slot: Slot


class CombinedUpdate(Words):
    """`file` as it was given, `sha256` of it in canonical form."""

    file: FileName
    sha256: Sha256
    client_id: ClientId
    num_examples: Examples
    norm: float
    distance: float | None
    is_chosen: bool


class OfflineDone(Words):
    """`metrics` are means of the updates' metrics, each counted by its examples."""

    strategy: Strategy
    round: Round
    model: OfflineFile
    state: tuple[OfflineState, ...]
    updates: tuple[CombinedUpdate, ...]
    metrics: Metrics


class StateNote(Words):
    """Lies beside the files of a state: what it goes with."""

    strategy: Strategy
    round: Round
    model_sha256: Sha256
