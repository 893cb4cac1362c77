"""From what a caller asks for to a plan: the demonstrator's words, or a strategy of ours with its options."""

from collections.abc import Callable, Iterable, Mapping

from pydantic import JsonValue, ValidationError

from infra.plugins import Rules, strategy
from schemas.catalogue import UnknownStrategy
from schemas.ids import ClientId
from schemas.plan import Plan
from schemas.strategies import SWAG, FedAvg, FedDC, Strategy
from services.api.bodies import NewTraining
from services.api.errors import BadInput

_OURS = {"rounds": "target_num_updates"}
_TAKEN_OVER = (
    *("update", "partial", "norm_clip", "buffers", "best"),
    *("participation", "evaluation", "config", "seed", "shard_bytes"),
)
_PLAIN = (None, "FedAvg", "FedProx", "FedDC")  # the demonstrator's methods, which are all the same there
_METHOD, _PERIOD = "aggregation_method", "options.daisy_chain_period"


def plan_of(told: NewTraining, rules: Rules) -> Plan:
    """The plan, or a refusal that names the field that is wrong."""
    asked = _strategy(told, rules)
    try:
        return Plan(
            rounds=told.target_num_updates * (told.options.daisy_chain_period or 1),
            strategy=asked,
            **{name: getattr(told, name) for name in _TAKEN_OVER},
        )
    except ValidationError as error:
        raise _named(error, lambda name: _OURS.get(name, name)) from None


def fault_of_weights(plan: Plan, clients: Iterable[ClientId]) -> str | None:
    """What is wrong with the weights of clients that the plan names, for a training of these clients."""
    there_are = set(clients)
    weights = plan.strategy.client_weights if isinstance(plan.strategy, FedAvg) else {}
    strangers = sorted(str(client) for client in weights.keys() - there_are)
    if strangers:
        return f"no clients of the training: {', '.join(strangers[:3])}"
    if there_are and not any(weights.get(client, 1) for client in there_are):
        return "every client of the training has the weight 0"
    return None


def _strategy(told: NewTraining, rules: Rules) -> Strategy:
    if told.strategy is not None:
        _require_said_once(told)
        return _made(told.strategy.name, told.strategy.model_extra or {}, rules, "strategy")
    if told.uncertainty_method == "SWAG":
        return _swag(told)
    if told.options.daisy_chain_period:
        return _chain(told, told.options.daisy_chain_period)
    if told.aggregation_method == "FedDC":  # without a period the demonstrator does not chain either
        return FedDC(period=1)
    return _made(told.aggregation_method or "FedAvg", {}, rules, _METHOD)


def _made(name: str, options: Mapping[str, JsonValue], rules: Rules, field: str) -> Strategy:
    try:
        return strategy(name, options, rules)
    except UnknownStrategy as error:
        raise BadInput({field: [str(error)]}) from None
    except ValidationError as error:
        raise _named(error, lambda name: field if name == "body" else f"{field}.{name}") from None


def _require_said_once(told: NewTraining) -> None:
    assert told.strategy is not None
    name = told.strategy.name
    if told.aggregation_method not in {None, name}:
        raise BadInput({_METHOD: [f"it is not the strategy {name[:64]!r} that is asked for; leave it out"]})
    if told.options.daisy_chain_period:
        raise BadInput({_PERIOD: ["where a strategy is asked for, say FedDC and its period there"]})
    if told.uncertainty_method == "SWAG" and name != "SWAG":
        raise BadInput({"uncertainty_method": ["SWAG needs the strategy SWAG"]})


def _swag(told: NewTraining) -> SWAG:
    if told.aggregation_method not in {*_PLAIN, "SWAG"}:
        raise BadInput({_METHOD: ["with uncertainty_method SWAG the strategy is SWAG; leave it out"]})
    if told.options.daisy_chain_period:
        raise BadInput({_PERIOD: ["there is no daisy chain with uncertainty_method SWAG"]})
    return SWAG()


def _chain(told: NewTraining, period: int) -> FedDC:
    """A chain of `period` rounds counts as one update there, so there are so many times more rounds."""
    if told.aggregation_method not in _PLAIN:
        raise BadInput({_PERIOD: [f"{str(told.aggregation_method)[:64]} has no daisy chain; FedDC has"]})
    return FedDC(period=period)


def _named(error: ValidationError, rename: Callable[[str], str]) -> BadInput:
    return BadInput({rename(name): faults for name, faults in BadInput.told_by(error).fields.items()})
