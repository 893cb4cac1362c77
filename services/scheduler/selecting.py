"""The best version of the model, and when to stop for want of a better one."""

from schemas.message import Metrics
from schemas.plan import BestModel
from schemas.weights import ModelRef
from schemas.words import Mode
from services.scheduler.state import Best


def after_evaluation(best: Best, by: BestModel, model: ModelRef, metrics: Metrics) -> Best:
    """A metric that nobody reported is not better."""
    value = metrics.get(by.metric)
    if value is not None and (best.value is None or _passes(value, best.value, by)):
        return Best(model, value)
    return Best(best.model, best.value, best.evaluations_since + 1)


def why_stop(best: Best, by: BestModel | None) -> str | None:
    """The reason why a training ends before its last round, if it does."""
    if by is None or by.patience is None or best.evaluations_since < by.patience:
        return None
    found = "none" if best.model is None else f"{best.value!r} of version {best.model.version}"
    return f"no better {by.metric} in {best.evaluations_since} evaluations; the best is {found}"


def _passes(value: float, best: float, by: BestModel) -> bool:
    gain = value - best if by.mode is Mode.MAX else best - value
    return gain > by.min_delta
