"""The reduce plan: one object per close of a round; every shard's task refers to it."""

from typing import Annotated

from pydantic import Field

from schemas.ids import TrainingId
from schemas.message import MAX_CLIENTS, Epoch, Round, Words
from schemas.plan import BUFFERS, TensorPattern
from schemas.strategies import Strategy
from schemas.weights import ModelRef, PlannedUpdate, State
from schemas.words import Extra, UpdateKind


class ReducePlan(Words):
    """`updates` are sorted by client id: the order of the fold, hence of the last bits."""

    training_id: TrainingId
    round: Round
    epoch: Epoch
    strategy: Strategy
    update: UpdateKind = UpdateKind.WEIGHTS
    norm_clip: float | None = Field(default=None, gt=0)
    buffers: tuple[TensorPattern, ...] = BUFFERS
    extra: Extra | None = None  # what lies in the updates beside the weights
    is_chosen: bool = False  # whether `updates` are what a strategy that chooses has chosen
    current: ModelRef
    state: State = ()  # of the strategy, as committed with `current`; none in the first round
    shard_bytes: int = Field(ge=8, multiple_of=8)
    updates: Annotated[tuple[PlannedUpdate, ...], Field(min_length=1, max_length=MAX_CLIENTS)]
