"""Rules of the operator's own: functions that its settings name, loaded when a service starts.

A rule is `rule(current, updates, weights, options)`: float64 arrays of shapes (n,), (k, n) and (k,), and a
frozen pydantic model; it gives the n new values.  It must work elementwise: n is whatever piece of the model
is at hand, and the updates come sorted by client.
"""

import importlib
import inspect
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, get_type_hints

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, JsonValue
from pydantic.errors import PydanticInvalidForJsonSchema

from schemas.catalogue import BUILT_IN, Described, UnknownStrategy, built_in, described, strategy_named
from schemas.refusal import Refusal
from schemas.strategies import Custom, Strategy

Values = NDArray[np.float64]
Function = Callable[[Values, Values, Values, Any], Values]  # the last one is of the rule's own options model

_PLACE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")  # as in `Custom.rule`


class RuleNotLoaded(Refusal):
    """What an operator has named is no rule; the sentence says why."""

    code: ClassVar[str] = "rule_not_loaded"

    def __init__(self, place: str, why: str) -> None:
        self.place = place
        super().__init__(f"no rule can be loaded from {place[:200]!r}: {why}")


class RuleNotFound(RuleNotLoaded):
    code: ClassVar[str] = "rule_not_found"


class RuleSignatureWrong(RuleNotLoaded):
    code: ClassVar[str] = "rule_signature_wrong"


class RuleNameWrong(Refusal):
    code: ClassVar[str] = "rule_name_wrong"

    def __init__(self, name: str, why: str) -> None:
        self.name = name
        super().__init__(f"no rule can be called {name[:64]!r}: {why}")


@dataclass(frozen=True, slots=True)
class CustomRule:
    function: Function
    options: type[BaseModel]

    def options_of(self, told: Mapping[str, JsonValue]) -> BaseModel:
        """Said as in JSON.  Raises pydantic's `ValidationError` if they are wrong."""
        return self.options.model_validate_json(json.dumps(dict(told)))


Rules = Mapping[str, CustomRule]


def load_rules(setting: str) -> dict[str, CustomRule]:
    """Of `name=package.module:function[,name2=…]`; nothing is no rule."""
    found: dict[str, CustomRule] = {}
    for entry in filter(None, (part.strip() for part in setting.split(","))):
        name, sign, place = entry.partition("=")
        if not sign:
            raise RuleNotLoaded(entry, "the setting is name=package.module:function, with commas between")
        _require_free(name, found)
        found[name] = load_rule(place)
    return found


def load_rule(place: str) -> CustomRule:
    """The function at `package.module:function`, and the model of its options."""
    function = _function(place)
    options = _options(place, function)
    return CustomRule(function, options)


def strategies(rules: Rules) -> tuple[Described, ...]:
    """Ours, then the operator's."""
    return (*built_in(), *(described(name, rule.function, rule.options) for name, rule in rules.items()))


def strategy(name: str, options: Mapping[str, JsonValue], rules: Rules) -> Strategy:
    """One of ours or of the operator's, by its name.  Raises pydantic's `ValidationError` as well."""
    if name in BUILT_IN:
        return strategy_named(name, options)
    if name == Custom.__name__:
        return _custom(options, rules)
    return _custom({"rule": name, "options": dict(options)}, rules)


def _custom(told: Mapping[str, JsonValue], rules: Rules) -> Custom:
    rule = told.get("rule")
    if isinstance(rule, str) and rule not in rules:
        raise UnknownStrategy(rule, (*BUILT_IN, *rules))
    made = Custom.model_validate_json(json.dumps(dict(told)))
    rules[made.rule].options_of(made.options)
    return made


def _require_free(name: str, taken: Rules) -> None:
    if not _NAME.fullmatch(name):
        raise RuleNameWrong(name, "a name has a letter, then up to 63 letters, digits and _ . -")
    if name in BUILT_IN or name == Custom.__name__:
        raise RuleNameWrong(name, "one of Warren's own strategies is called so")
    if name in taken:
        raise RuleNameWrong(name, "another one is called so")


def _function(place: str) -> Function:
    if not _PLACE.fullmatch(place):
        raise RuleNotLoaded(place, "it is not package.module:function")
    module, _, name = place.partition(":")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except Exception as error:  # whatever a module of the operator's may raise while it is imported
        raise RuleNotFound(place, f"importing {module} fails with {type(error).__name__}: {error}") from error
    if found is None:
        raise RuleNotFound(place, f"{module} has no {name}")
    if not inspect.isfunction(found):
        raise RuleSignatureWrong(place, f"{name} is no function")
    return found


def _options(place: str, function: Function) -> type[BaseModel]:
    try:
        inspect.signature(function).bind(None, None, None, options=None)
        found = get_type_hints(function).get("options")
    except (TypeError, NameError) as error:
        raise RuleSignatureWrong(
            place, f"it is to take current, updates, weights and options, but {error}"
        ) from None
    if not (inspect.isclass(found) and issubclass(found, BaseModel) and found.model_config.get("frozen")):
        raise RuleSignatureWrong(
            place, "its parameter `options` is not annotated with a frozen pydantic model"
        )
    try:
        found.model_json_schema()
    except PydanticInvalidForJsonSchema as error:
        raise RuleSignatureWrong(place, f"its options cannot be described: {error}") from None
    return found
