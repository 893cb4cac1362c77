"""Values of any type of `schemas`, drawn by hypothesis within the limits that the type states."""

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from types import UnionType
from typing import Annotated, Any, Literal, NewType, Union, get_args, get_origin
from uuid import UUID

from hypothesis import strategies as st
from pydantic import StringConstraints
from pydantic.fields import FieldInfo

from schemas.message import Words
from schemas.plan import Plan
from schemas.strategies import SWAG, Bulyan, FedAvg, FedDC, FedProx, Krum, MultiKrum, Weighting
from schemas.words import UpdateKind

_SOME = 4  # elements of a collection are enough
_MANY = 2**63 - 1

Strategy = st.SearchStrategy[Any]


def instances(model: type[Words], /, **fields: Strategy) -> Strategy:
    """Instances of `model`; `fields` replace what its own fields would draw."""
    own = {name: _field(field) for name, field in model.model_fields.items() if name not in fields}
    drawn = st.fixed_dictionaries({**own, **fields})
    if model in _AGREEING:
        drawn = drawn.map(_AGREEING[model])
    return drawn.map(lambda values: model(**values))


def _evaluated(plan: dict[str, Any]) -> dict[str, Any]:
    """At most every round, and at all if a version is selected by it."""
    every = min(plan["evaluation"].every, plan["rounds"])
    if plan["best"] is not None:
        every = max(every, 1)
    return {**plan, "evaluation": plan["evaluation"].model_copy(update={"every": every})}


def _suited(plan: dict[str, Any]) -> dict[str, Any]:
    """To the strategy that was drawn."""
    match plan["strategy"]:
        case FedDC() as chain:
            fits = chain.model_copy(update={"period": min(chain.period, 1_000)})
            rounds = fits.period * min(max(1, plan["rounds"] // fits.period), 1_000)
            whole = {"update": UpdateKind.WEIGHTS, "partial": False}
            return {**plan, **whole, "strategy": fits, "rounds": rounds}
        case SWAG() as swag:
            fits_ = swag.model_copy(update={"rounds": min(swag.rounds, plan["rounds"])})
            return {**plan, "strategy": fits_}
        case Krum() | Bulyan() | MultiKrum() as robust:
            few = {"f": robust.f % 200} | ({"k": robust.k % 200 + 1} if isinstance(robust, MultiKrum) else {})
            policy = plan["participation"].model_copy(update={"min_clients": 1})
            return {**plan, "strategy": robust.model_copy(update=few), "participation": policy}
        case _:
            return plan


def _capped_if_it_has_a_cap(strategy: dict[str, Any]) -> dict[str, Any]:
    is_capped = strategy["weighting"] is Weighting.CAPPED
    return {**strategy, "cap": (strategy["cap"] or 1) if is_capped else None}


_AGREEING: Mapping[type[Words], Any] = {
    Plan: lambda plan: _evaluated(_suited(plan)),
    FedAvg: _capped_if_it_has_a_cap,
    FedProx: _capped_if_it_has_a_cap,
}


def _field(field: FieldInfo) -> Strategy:
    return values(field.annotation, _limits(field.metadata))


def values(kind: Any, limits: Mapping[str, Any]) -> Strategy:  # noqa: C901, PLR0911 -- one case a kind of type
    """Values of one annotation."""
    if isinstance(kind, NewType):
        return values(kind.__supertype__, limits)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return values(arguments[0], {**_limits(arguments[1:]), **limits})
    if origin in {Union, UnionType}:
        return st.one_of(*(values(each, limits) for each in arguments))
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is tuple:
        return _many(arguments[0], limits).map(tuple)
    if origin is dict:
        keys, items = (values(each, {}) for each in arguments)
        return st.dictionaries(keys, items, max_size=_SOME)
    if isinstance(kind, type) and issubclass(kind, Words):
        return instances(kind)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return st.sampled_from(kind)
    scalars: Strategy = _SCALARS[kind](limits)
    return scalars


def _many(kind: Any, limits: Mapping[str, Any]) -> Strategy:
    return st.lists(values(kind, {}), min_size=limits.get("min_length", 0), max_size=_SOME)


def _limits(metadata: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in metadata:
        match each:
            case FieldInfo():
                found |= _limits(each.metadata)
            case StringConstraints():
                found |= {name: value for name, value in vars(each).items() if value is not None}
            case _:
                found |= {name: getattr(each, name) for name in _LIMITS if hasattr(each, name)}
    return found


_LIMITS = ("ge", "gt", "le", "lt", "multiple_of", "min_length", "max_length", "pattern")


def _integer(limits: Mapping[str, Any]) -> Strategy:
    factor = limits.get("multiple_of", 1)
    low = max(limits.get("ge", -_MANY), limits.get("gt", -_MANY - 1) + 1)
    high = min(limits.get("le", _MANY), limits.get("lt", _MANY + 1) - 1)
    return st.integers(-(-low // factor), high // factor).map(lambda number: number * factor)


def _number(limits: Mapping[str, Any]) -> Strategy:
    return st.floats(
        min_value=limits.get("ge", limits.get("gt", -sys.float_info.max)),
        max_value=limits.get("le", limits.get("lt", sys.float_info.max)),
        exclude_min="gt" in limits,
        exclude_max="lt" in limits,
    )


def _text(limits: Mapping[str, Any]) -> Strategy:
    if "pattern" in limits:
        return st.from_regex(limits["pattern"].replace("$", r"\Z"), alphabet=st.characters(max_codepoint=127))
    most = min(limits.get("max_length", _SOME), 50)
    return st.text(
        st.characters(codec="utf-8", exclude_characters="\0"),
        min_size=limits.get("min_length", 0),
        max_size=most,
    )


def _moment(_: Mapping[str, Any]) -> Strategy:
    return st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 -- hypothesis wants them naive


_SCALARS: dict[Any, Any] = {
    bool: lambda _: st.booleans(),
    int: _integer,
    float: _number,
    str: _text,
    UUID: lambda _: st.uuids(),
    datetime: _moment,
    type(None): lambda _: st.none(),
}
