"""Plans of every kind of strategy, drawn by whatever draws."""

from collections.abc import Callable, Sequence
from typing import Any

from schemas.plan import BestModel, Plan
from schemas.strategies import (
    SCAFFOLD,
    SWAG,
    Bulyan,
    Custom,
    FedAdam,
    FedAvg,
    FedDC,
    FedProx,
    Krum,
    MultiKrum,
    QFedAvg,
)
from schemas.words import Mode, UpdateKind
from tests.builders import a_plan

Pick = Callable[[Sequence[Any]], Any]

STRATEGIES = (
    FedAvg(),
    FedProx(),
    FedAdam(),
    Krum(f=0),
    Krum(f=1),
    MultiKrum(f=0, k=2),
    Bulyan(f=0),
    QFedAvg(),
    FedDC(period=1),
    FedDC(period=2),
    FedDC(period=3),
    FedDC(period=4),
    SWAG(),
    SCAFFOLD(),
    Custom(rule="mean"),
)


def drawn_plan(pick: Pick) -> Plan:
    strategy = pick(STRATEGIES)
    rounds = pick((1, 2, 3, 5))
    if isinstance(strategy, FedDC):
        rounds = strategy.period * pick((1, 2))
    return a_plan(
        rounds=rounds,
        evaluate_every=pick((0, 1, pick(range(rounds + 1)))),
        min_clients=pick((1, 1, 2, 3)),
        fraction=pick((0.3, 0.5, 1.0)),
        round_attempts=pick((1, 2, 3)),
        task_attempts=pick((1, 2, 3)),
        seed=pick(range(8)),
        strategy=strategy,
        **_more(strategy, pick),
    )


def selecting(plan: Plan, pick: Pick) -> Plan:
    """The same plan, with a best version if it evaluates any."""
    if not plan.evaluation.every or pick((True, False)):
        return plan
    best = BestModel(
        metric=pick(("loss", "loss", "never_reported")),
        mode=pick(tuple(Mode)),
        patience=pick((None, 1, 1, 2)),
        min_delta=pick((0.0, 0.25)),
    )
    return plan.model_copy(update={"best": best})


def _more(strategy: object, pick: Pick) -> dict[str, Any]:
    clip = {"norm_clip": pick((None, 1.0))}
    if isinstance(strategy, FedDC):
        return clip
    return {**clip, "update": pick(tuple(UpdateKind)), "partial": pick((False, True))}
