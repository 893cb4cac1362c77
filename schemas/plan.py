"""What a training is to do.  Validated when the training is created."""

from typing import Literal

from pydantic import Field, model_validator

from schemas.message import MAX_CLIENTS, UserConfig, Words

MIB = 2**20


class FedAvg(Words):
    """The mean of the updates, each counted by its examples: sum(n_k u_k) / sum(n_k).

    McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS 2017.
    """

    name: Literal["FedAvg"] = "FedAvg"


Strategy = FedAvg


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


class Plan(Words):
    rounds: int = Field(ge=1, le=1_000_000)
    strategy: Strategy = FedAvg()
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

    def evaluates(self, round_: int) -> bool:
        """The last round is evaluated whenever any is."""
        every = self.evaluation.every
        return every > 0 and ((round_ + 1) % every == 0 or round_ + 1 == self.rounds)
