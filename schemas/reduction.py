"""The reduce plan: one object per close of a round; every shard's task refers to it."""

from typing import Annotated

from pydantic import Field

from schemas.ids import TrainingId
from schemas.message import MAX_CLIENTS, Epoch, Round, Words
from schemas.plan import Strategy
from schemas.weights import ModelRef, PlannedUpdate


class ReducePlan(Words):
    """`updates` are sorted by client id: the order of the fold, hence of the last bits."""

    training_id: TrainingId
    round: Round
    epoch: Epoch
    strategy: Strategy
    current: ModelRef
    shard_bytes: int = Field(ge=8, multiple_of=8)
    updates: Annotated[tuple[PlannedUpdate, ...], Field(min_length=1, max_length=MAX_CLIENTS)]
