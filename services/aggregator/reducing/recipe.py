"""What a reduce plan says is done to which tensors: weights, scales, and the treatment of every tensor."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import cached_property

from pydantic import BaseModel

from infra.plugins import CustomRule, Function, Rules
from infra.weights.layout import Dtype, Tensor
from infra.weights.parts import FLOATS
from schemas.reduction import ReducePlan
from schemas.strategies import (
    SCAFFOLD,
    SWAG,
    Bulyan,
    Custom,
    FedAdagrad,
    FedAdam,
    FedAvgM,
    FedMedian,
    FedTrimmedAvg,
    FedYogi,
    QFedAvg,
    Strategy,
)
from schemas.weights import PlannedUpdate
from schemas.words import Slot, UpdateKind
from services.aggregator.rules.refusals import NotChosen, RuleUnknown
from services.aggregator.rules.weighting import check_updates, q_terms, scales_of, weights_of


class Treatment(StrEnum):
    MEAN = "mean"  # the weighted mean of what was sent
    MOVED = "moved"  # the current value moved by a share of the mean difference
    FAIR = "fair"  # the current value moved as q-fair averaging says
    STEPPED = "stepped"  # one step of a server optimiser
    RANKED = "ranked"  # by the order of the values at each place
    CUSTOM = "custom"  # by a function of the operator's
    BESIDE = "beside"  # extra tensors: their weighted mean
    COMPARED = "compared"  # not combined: measured against one another


_OF_WEIGHTS: dict[type[Strategy], Treatment] = {
    FedAvgM: Treatment.STEPPED,
    FedAdagrad: Treatment.STEPPED,
    FedAdam: Treatment.STEPPED,
    FedYogi: Treatment.STEPPED,
    QFedAvg: Treatment.FAIR,
    SCAFFOLD: Treatment.MOVED,
    Custom: Treatment.CUSTOM,
}
_RANKED = (FedMedian, FedTrimmedAvg, Bulyan)


@dataclass(frozen=True)
class Recipe:
    """`updates` are those that count: the others of the plan have the weight 0.

    A recipe that `compares` does not combine but prepares for choosing.

    `fair` has a factor and h of each update, for q-fair averaging alone; `custom` is the operator's function
    with its options, for a custom rule alone.
    """

    plan: ReducePlan
    updates: tuple[PlannedUpdate, ...]
    weights: tuple[int, ...]
    scales: tuple[float, ...]
    fair: tuple[tuple[float, float], ...] = ()
    custom: tuple[Function, BaseModel] | None = None
    compares: bool = False

    @property
    def strategy(self) -> Strategy:
        return self.plan.strategy

    @property
    def is_delta(self) -> bool:
        return self.plan.update is UpdateKind.DELTA

    @property
    def step(self) -> int:
        """1 in the first round."""
        return self.plan.round + 1

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        return slots_of(self.plan)

    @cached_property
    def clips(self) -> bool:
        return any(scale != 1 for scale in self.scales)

    @property
    def needs_all(self) -> bool:
        """Whether all updates of a place are needed at once."""
        return self.compares or isinstance(self.strategy, (*_RANKED, Custom))

    @cached_property
    def compares_differences(self) -> bool:
        """What is not sent, and what is clipped, has a distance from the current model; else it drops out."""
        return self.clips or self.is_delta or any(update.tensors is not None for update in self.updates)

    def treatment(self, tensor: Tensor, is_extra: bool) -> Treatment:
        if self.compares:
            return Treatment.COMPARED
        if is_extra:
            return Treatment.BESIDE
        if isinstance(self.strategy, _RANKED):
            return Treatment.RANKED
        special = _OF_WEIGHTS.get(type(self.strategy), Treatment.MEAN)
        if tensor.dtype not in FLOATS or self._is_buffer(tensor.name):
            return Treatment.MEAN
        return special

    def needs_current(self, treatment: Treatment, dtype: Dtype, senders: Sequence[int]) -> bool:
        """Whether the current model's values must be known."""
        if treatment is Treatment.BESIDE:
            return False
        if treatment is Treatment.COMPARED:
            return self._is_compared_with_current(dtype, senders)
        if not senders or self.is_delta or treatment not in {Treatment.MEAN, Treatment.RANKED}:
            return True
        return self.clips and dtype in FLOATS

    def needed_slots(self, treatment: Treatment, senders: Sequence[int]) -> tuple[Slot, ...]:
        """The parts of the state whose values must be known."""
        if treatment is Treatment.STEPPED:
            return self.slots
        if treatment is Treatment.BESIDE and (isinstance(self.strategy, SCAFFOLD) or not senders):
            return self.slots
        return ()

    def _is_compared_with_current(self, dtype: Dtype, senders: Sequence[int]) -> bool:
        if dtype in FLOATS:
            return self.compares_differences and not self.is_delta
        return self.is_delta or len(senders) < len(self.updates)

    def _is_buffer(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self.plan.buffers)


def slots_of(plan: ReducePlan) -> tuple[Slot, ...]:
    """The parts of the state that the round writes."""
    if isinstance(plan.strategy, SWAG) and plan.extra is None:
        return ()
    return plan.strategy.slots


def recipe_of(plan: ReducePlan, rules: Rules) -> Recipe:
    """Raises a refusal if the plan's updates are not what its strategy needs."""
    strategy = plan.strategy
    check_updates(strategy, plan.updates, is_chosen=plan.is_chosen)
    if strategy.chooses and not plan.is_chosen:
        raise NotChosen(strategy.name)
    counted = [
        (update, weight)
        for update, weight in zip(plan.updates, weights_of(strategy, plan.updates), strict=True)
        if weight
    ]
    updates = tuple(update for update, _ in counted)
    scales = scales_of(plan.norm_clip, updates)
    return Recipe(
        plan=plan,
        updates=updates,
        weights=tuple(weight for _, weight in counted),
        scales=scales,
        fair=q_terms(strategy, updates, scales) if isinstance(strategy, QFedAvg) else (),
        custom=_custom(strategy, rules) if isinstance(strategy, Custom) else None,
    )


def comparison_of(plan: ReducePlan) -> Recipe:
    """For a strategy that chooses."""
    check_updates(plan.strategy, plan.updates)
    ones = (1,) * len(plan.updates)
    return Recipe(plan, plan.updates, ones, scales_of(plan.norm_clip, plan.updates), compares=True)


def _custom(strategy: Custom, rules: Rules) -> tuple[Function, BaseModel]:
    rule: CustomRule | None = rules.get(strategy.rule)
    if rule is None:
        raise RuleUnknown(strategy.rule)
    return rule.function, rule.options_of(strategy.options)
