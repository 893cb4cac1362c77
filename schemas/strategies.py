"""Strategies: how updates become the next model.  Options only; `services/aggregator` does the arithmetic.

`w` is the current model, `u_k` client k's weights, `n_k` its examples, `D` = (weighted mean of `u_k`) - `w`.
"""

from enum import StrEnum
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, StringConstraints, model_validator

from schemas.ids import ClientId
from schemas.message import MAX_CLIENTS, MAX_EXAMPLES, MetricName, UserConfig, Words
from schemas.words import Extra, Slot

MAX_COMPARED = 1_024  # updates whose distances from one another a strategy that chooses can know


class Weighting(StrEnum):
    EXAMPLES = "examples"
    UNIFORM = "uniform"
    CAPPED = "capped"


class Selection(StrEnum):
    SINGLE_PASS = "single_pass"  # noqa: S105 -- no password
    ITERATIVE = "iterative"


class Rule(Words):
    """What every strategy says of itself, besides its options."""

    name: str

    slots: ClassVar[tuple[Slot, ...]] = ()  # server state, one file each, stored beside every model version
    chooses: ClassVar[bool] = False  # it picks some of the updates by their distances from one another
    measures: ClassVar[bool] = False  # it needs each update's distance from the current model

    @property
    def least_updates(self) -> int:
        """With fewer accepted updates the rule says nothing."""
        return 1

    def aggregates(self, round_: int) -> bool:
        """Whether this round ends with a new version of the model."""
        return True

    def versions_before(self, round_: int) -> int:
        """How many new versions of the model the rounds before this one have made."""
        return round_

    def extra_of(self, round_: int, rounds: int) -> Extra | None:
        """What a client uploads beside its weights in this round of so many."""
        return None

    def config(self, round_: int, rounds: int) -> dict[str, Any]:
        """What the user code is told, on top of the plan's own config."""
        return {}


class FedAvg(Rule):
    """The mean of the updates, by default each counted by its examples: sum(n_k u_k) / sum(n_k).

    `capped` counts a client for at most `cap` examples; a client named in `client_weights` counts that much
    less (0: not at all).

    McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS 2017.
    """

    name: Literal["FedAvg"] = "FedAvg"
    weighting: Weighting = Weighting.EXAMPLES
    cap: int | None = Field(default=None, ge=1, le=MAX_EXAMPLES)
    client_weights: dict[ClientId, Annotated[float, Field(ge=0, le=1)]] = Field(
        default_factory=dict, max_length=MAX_CLIENTS
    )

    @model_validator(mode="after")
    def _has_a_cap_if_capped(self) -> "FedAvg":
        if (self.weighting is Weighting.CAPPED) != (self.cap is not None):
            raise ValueError("weighting 'capped' needs a cap, and a cap needs weighting 'capped'")
        return self


class FedProx(FedAvg):
    """FedAvg; the user code finds `mu` in its config and adds mu/2 * |w - w_global|^2 to its loss.

    Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020.
    """

    name: Literal["FedProx"] = "FedProx"  # type: ignore[assignment]  # its own name
    mu: float = Field(default=0.01, ge=0)

    def config(self, round_: int, rounds: int) -> dict[str, Any]:
        return {"mu": self.mu}


class FedAvgM(Rule):
    """g = -D; v = momentum * v + g; w - server_lr * v, with Nesterov w - server_lr * (g + momentum * v).

    Hsu et al., "Measuring the Effects of Non-Identical Data Distribution", arXiv 1909.06335.
    """

    name: Literal["FedAvgM"] = "FedAvgM"
    server_lr: float = Field(default=1.0, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False

    slots: ClassVar[tuple[Slot, ...]] = (Slot.MOMENTUM,)


class FedAdagrad(Rule):
    """v += D^2; w + eta * D / (sqrt(v) + tau).

    Reddi et al., "Adaptive Federated Optimization", ICLR 2021.
    """

    name: Literal["FedAdagrad"] = "FedAdagrad"
    eta: float = Field(default=0.1, gt=0)
    tau: float = Field(default=1e-9, gt=0)

    slots: ClassVar[tuple[Slot, ...]] = (Slot.V,)


class FedAdam(Rule):
    """m = b1 m + (1-b1) D; v = b2 v + (1-b2) D^2; w + eta_t * m / (sqrt(v) + tau).

    eta_t = eta * sqrt(1 - b2^(t+1)) / (1 - b1^(t+1)), with t = 1 in the first round; m and v are stored as
    they are.  Reddi et al., "Adaptive Federated Optimization", ICLR 2021.
    """

    name: Literal["FedAdam"] = "FedAdam"
    eta: float = Field(default=0.1, gt=0)
    b1: float = Field(default=0.9, ge=0, lt=1)
    b2: float = Field(default=0.99, ge=0, lt=1)
    tau: float = Field(default=1e-9, gt=0)

    slots: ClassVar[tuple[Slot, ...]] = (Slot.M, Slot.V)


class FedYogi(Rule):
    """m = b1 m + (1-b1) D; v -= (1-b2) D^2 sign(v - D^2); w + eta * m / (sqrt(v) + tau).

    Reddi et al., "Adaptive Federated Optimization", ICLR 2021.
    """

    name: Literal["FedYogi"] = "FedYogi"
    eta: float = Field(default=0.01, gt=0)
    b1: float = Field(default=0.9, ge=0, lt=1)
    b2: float = Field(default=0.99, ge=0, lt=1)
    tau: float = Field(default=1e-3, gt=0)

    slots: ClassVar[tuple[Slot, ...]] = (Slot.M, Slot.V)


class FedMedian(Rule):
    """The median of every coordinate, unweighted.

    Yin et al., "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates", ICML 2018.
    """

    name: Literal["FedMedian"] = "FedMedian"


class FedTrimmedAvg(Rule):
    """Per coordinate the unweighted mean of what is left without the floor(beta n) lowest and highest values.

    Yin et al., "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates", ICML 2018.
    """

    name: Literal["FedTrimmedAvg"] = "FedTrimmedAvg"
    beta: float = Field(default=0.2, ge=0, lt=0.5)

    def cut(self, updates: int) -> int:
        """floor(beta n), of beta as it is written: 0.29 of 100 is 29."""
        return int(Fraction(repr(self.beta)) * updates)


class Krum(Rule):
    """The update with the lowest score: the sum of squared distances to its max(1, n-f-2) nearest others.

    All tensors count as one vector; of equal scores the lowest client id wins.

    Blanchard et al., "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent", NeurIPS 2017.
    """

    name: Literal["Krum"] = "Krum"
    f: int = Field(default=1, ge=0, le=MAX_CLIENTS)

    chooses: ClassVar[bool] = True

    @property
    def least_updates(self) -> int:
        return self.f + 2


class MultiKrum(Rule):
    """The mean, weighted by examples, of the k updates with the lowest Krum scores.

    Blanchard et al., "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent", NeurIPS 2017.
    """

    name: Literal["MultiKrum"] = "MultiKrum"
    f: int = Field(default=1, ge=0, le=MAX_CLIENTS)
    k: int = Field(default=2, ge=1, le=MAX_CLIENTS)

    chooses: ClassVar[bool] = True

    @property
    def least_updates(self) -> int:
        return max(self.f + 2, self.k)


class Bulyan(Rule):
    """Of theta = n - 2f clients chosen by Krum, per coordinate the unweighted mean of theta - 2f values.

    They are those nearest to the median.  `iterative` chooses the clients one by one, each among those that
    are left, as in the paper; `single_pass` takes the theta lowest scores at once.  n >= 4f + 3.

    El Mhamdi et al., "The Hidden Vulnerability of Distributed Learning in Byzantium", ICML 2018.
    """

    name: Literal["Bulyan"] = "Bulyan"
    f: int = Field(default=1, ge=0, le=MAX_CLIENTS)
    selection: Selection = Selection.ITERATIVE

    chooses: ClassVar[bool] = True

    @property
    def least_updates(self) -> int:
        return 4 * self.f + 3


class QFedAvg(Rule):
    """w - sum(delta_k) / sum(h_k): clients with a higher loss count for more.

    L = 1/client_lr; F = loss_k + 1e-10; delta_k = F^q L (w - u_k);
    h_k = q F^(q-1) |L (w - u_k)|^2 + L F^q.  `loss_metric` names the client's loss of the current model.

    Li et al., "Fair Resource Allocation in Federated Learning", ICLR 2020.
    """

    name: Literal["QFedAvg"] = "QFedAvg"
    q: float = Field(default=0.2, ge=0)
    client_lr: float = Field(default=0.1, gt=0)
    loss_metric: MetricName = "loss"

    measures: ClassVar[bool] = True


class FedDC(Rule):
    """Daisy chaining: each client goes on with another's update, and every `period` rounds all are averaged.

    Who goes on with whose update is a permutation drawn from the plan's seed; the mean is unweighted.

    Kamp et al., "Federated Learning from Small Datasets", ICLR 2023.
    """

    name: Literal["FedDC"] = "FedDC"
    period: int = Field(default=5, ge=1)

    def aggregates(self, round_: int) -> bool:
        return (round_ + 1) % self.period == 0

    def versions_before(self, round_: int) -> int:
        return round_ // self.period


class SWAG(Rule):
    """FedAvg; in the last `rounds` rounds each client uploads means of its weights and of their squares.

    A client takes both over `samples` points of its trajectory: first moments in the place of the weights,
    second moments beside them.  The weighted mean of the first moments is the model, that of the second
    moments is stored beside it.

    Maddox et al., "A Simple Baseline for Bayesian Uncertainty in Deep Learning", NeurIPS 2019.
    """

    name: Literal["SWAG"] = "SWAG"
    rounds: int = Field(default=1, ge=1)
    samples: int = Field(default=10, ge=1)

    slots: ClassVar[tuple[Slot, ...]] = (Slot.SECOND_MOMENT,)

    def extra_of(self, round_: int, rounds: int) -> Extra | None:
        return Extra.SECOND_MOMENT if round_ >= rounds - self.rounds else None

    def config(self, round_: int, rounds: int) -> dict[str, Any]:
        return {"swag_samples": self.samples} if self.extra_of(round_, rounds) else {}


class SCAFFOLD(Rule):
    """w + lr * mean(u_k - w); control += mean(change of client k's control).

    The global control travels to the clients beside the weights; clients keep their own controls.  The paper
    scales the control's step by the share of clients that took part; here it is the plain mean.

    Karimireddy et al., "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning", ICML 2020.
    """

    name: Literal["SCAFFOLD"] = "SCAFFOLD"
    lr: float = Field(default=1.0, gt=0)
    weighting: Literal[Weighting.EXAMPLES, Weighting.UNIFORM] = Weighting.UNIFORM

    slots: ClassVar[tuple[Slot, ...]] = (Slot.CONTROL,)

    def extra_of(self, round_: int, rounds: int) -> Extra | None:
        return Extra.CONTROL


class Custom(Rule):
    """A rule of the operator's own, by the name it is registered under; it checks `options` itself."""

    name: Literal["Custom"] = "Custom"
    rule: Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$")]
    options: UserConfig = Field(default_factory=dict)


Strategy = Annotated[
    FedAvg
    | FedProx
    | FedAvgM
    | FedAdagrad
    | FedAdam
    | FedYogi
    | FedMedian
    | FedTrimmedAvg
    | Krum
    | MultiKrum
    | Bulyan
    | QFedAvg
    | FedDC
    | SWAG
    | SCAFFOLD
    | Custom,
    Field(discriminator="name"),
]
