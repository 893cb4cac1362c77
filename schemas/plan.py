"""What a training is to do.  Validated when the training is created."""

from typing import Annotated, Any

from pydantic import Field, StringConstraints, model_validator

from schemas.message import MAX_CLIENTS, MAX_CONFIG, MetricName, UserConfig, Words
from schemas.strategies import MAX_COMPARED, SWAG, FedAvg, FedDC, Strategy
from schemas.words import Mode, UpdateKind

MIB = 2**20


class Participation(Words):
    """Who takes part in a round, and how long it waits for them."""

    min_clients: int = Field(default=1, ge=1, le=MAX_CLIENTS)  # quorum of accepted updates
    fraction: float = Field(default=1.0, gt=0, le=1)  # of the participants, drawn anew each round
    round_deadline_s: float = Field(default=3_600.0, gt=0, le=30 * 86_400)
    round_attempts: int = Field(default=3, ge=1, le=100)  # a round below quorum is tried this often
    task_attempts: int = Field(default=2, ge=1, le=100)  # a client whose task fails is asked this often


class Evaluation(Words):
    """Clients evaluate the new model on data of their own; metrics are weighted by examples."""

    every: int = Field(default=1, ge=0)  # rounds; 0 = never
    deadline_s: float = Field(default=600.0, gt=0, le=30 * 86_400)


class BestModel(Words):
    """Which version is the best, by a metric of its evaluation; and when to stop for want of a better one.

    A version is better if its metric passes the best one by more than `min_delta`.
    """

    metric: MetricName
    mode: Mode = Mode.MAX
    patience: int | None = Field(default=None, ge=1)  # evaluations without a better one; None: never stop
    min_delta: float = Field(default=0.0, ge=0)


TensorPattern = Annotated[str, StringConstraints(min_length=1, max_length=512)]
BUFFERS = ("*running_mean", "*running_var", "*num_batches_tracked")


class Plan(Words):
    rounds: int = Field(ge=1, le=1_000_000)
    strategy: Strategy = FedAvg()
    update: UpdateKind = UpdateKind.WEIGHTS
    partial: bool = False  # whether clients may send some of the tensors only
    norm_clip: float | None = Field(default=None, gt=0)  # largest L2 norm of an update's difference
    buffers: Annotated[tuple[TensorPattern, ...], Field(max_length=1_000)] = BUFFERS  # not for optimisers
    best: BestModel | None = None
    participation: Participation = Participation()
    evaluation: Evaluation = Evaluation()
    config: UserConfig = Field(default_factory=dict)  # handed to the user code as it is
    seed: int = Field(default=0, ge=0, lt=2**63)  # of every drawing of lots
    shard_bytes: int = Field(default=16 * MIB, ge=8, le=64 * MIB, multiple_of=8)

    @model_validator(mode="after")
    def _is_evaluated_if_asked(self) -> "Plan":
        if self.evaluation.every > self.rounds:
            raise ValueError(f"evaluation.every must be at most rounds={self.rounds}, or 0 for no evaluation")
        return self

    @model_validator(mode="after")
    def _suits_its_strategy(self) -> "Plan":
        match self.strategy:
            case FedDC() as chain if self.rounds % chain.period:
                raise ValueError(f"rounds must be a multiple of strategy.period={chain.period}")
            case FedDC() if self.partial or self.update is not UpdateKind.WEIGHTS:
                raise ValueError("FedDC passes whole models on: update must be 'weights' and partial false")
            case SWAG() as swag if swag.rounds > self.rounds:
                raise ValueError(f"strategy.rounds must be at most rounds={self.rounds}")
        if self.strategy.chooses and self.quorum > MAX_COMPARED:
            needs = f"{self.strategy.name} would need {self.quorum} updates"
            raise ValueError(f"{needs}, and can compare {MAX_COMPARED} at most")
        return self

    @model_validator(mode="after")
    def _leaves_room_for_what_the_strategy_tells(self) -> "Plan":
        if len(self.config_of(self.rounds - 1)) > MAX_CONFIG:
            raise ValueError(
                f"config and what {self.strategy.name} adds to it have at most {MAX_CONFIG} names"
            )
        return self

    @model_validator(mode="after")
    def _evaluates_what_it_selects_by(self) -> "Plan":
        if self.best is not None and not self.evaluation.every:
            raise ValueError("best needs evaluations: evaluation.every must be 1 or more")
        return self

    @property
    def quorum(self) -> int:
        """So many accepted updates a round needs: the policy's and the strategy's least."""
        return max(self.participation.min_clients, self.strategy.least_updates)

    @property
    def measures(self) -> bool:
        """Whether the distance of each update from the current model is needed."""
        compares_parts = self.partial and self.strategy.chooses
        return self.norm_clip is not None or self.strategy.measures or compares_parts

    def config_of(self, round_: int) -> dict[str, Any]:
        """What the user code is told in this round: the plan's own config, and what the strategy adds."""
        return {**self.config, **self.strategy.config(round_, self.rounds)}

    def evaluates(self, round_: int) -> bool:
        """The last round is evaluated whenever any is."""
        every = self.evaluation.every
        return every > 0 and ((round_ + 1) % every == 0 or round_ + 1 == self.rounds)
