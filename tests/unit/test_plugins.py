"""Rules of the operator's own: what is one, and what is said of anything else."""

import subprocess
import sys

import numpy as np
import pytest
from pydantic import ValidationError

from agents.operator.logins import Logins
from agents.operator.services import environment
from infra.plugins import (
    RuleNameWrong,
    RuleNotFound,
    RuleNotLoaded,
    RuleSignatureWrong,
    load_rule,
    load_rules,
    strategies,
    strategy,
)
from infra.stack.record import Record
from schemas.catalogue import UnknownStrategy
from schemas.strategies import Custom, FedAdam
from tests.rules import Damping, damped

DAMPED = "tests.rules:damped"


def test_a_rule_is_its_function_and_the_model_of_its_options() -> None:
    rule = load_rule(DAMPED)
    assert (rule.function, rule.options) == (damped, Damping)
    assert rule.options_of({"share": 1}) == Damping(share=1.0)
    moved = rule.function(np.zeros(1), np.array([[1.0], [4.0]]), np.array([2.0, 1.0]), Damping(share=0.5))
    assert moved.tolist() == [1.0]


@pytest.mark.parametrize("options", [{"share": 2}, {"share": "half"}, {"speed": 1}, {"share": float("nan")}])
def test_its_options_are_checked_by_its_model(options: dict[str, float | str]) -> None:
    with pytest.raises(ValidationError):
        load_rule(DAMPED).options_of(dict(options))


@pytest.mark.parametrize(
    ("place", "refusal", "why"),
    [
        ("tests.rules", RuleNotLoaded, "it is not package.module:function"),
        ("tests.rules:", RuleNotLoaded, "it is not package.module:function"),
        ("tests/rules.py:damped", RuleNotLoaded, "it is not package.module:function"),
        ("tests.no_such:damped", RuleNotFound, "ModuleNotFoundError: No module named 'tests.no_such'"),
        ("tests.rules:no_such", RuleNotFound, "tests.rules has no no_such"),
        ("tests.rules:CONSTANT", RuleSignatureWrong, "CONSTANT is no function"),
        ("tests.rules:Damping", RuleSignatureWrong, "Damping is no function"),
        ("tests.rules:without_options", RuleSignatureWrong, "unexpected keyword argument 'options'"),
        ("tests.rules:unannotated", RuleSignatureWrong, "is not annotated with a frozen pydantic model"),
        ("tests.rules:with_any_options", RuleSignatureWrong, "is not annotated with a frozen pydantic model"),
        ("tests.rules:thawed", RuleSignatureWrong, "is not annotated with a frozen pydantic model"),
        ("tests.rules:of_nowhere", RuleSignatureWrong, "name 'Nowhere' is not defined"),
        ("tests.rules:opaque", RuleSignatureWrong, "its options cannot be described"),
    ],
)
def test_what_is_no_rule_is_refused_with_the_reason(
    place: str, refusal: type[RuleNotLoaded], why: str
) -> None:
    with pytest.raises(refusal) as refused:
        load_rule(place)
    assert type(refused.value) is refusal
    assert why in str(refused.value)


def test_the_setting_names_any_number_of_rules() -> None:
    assert load_rules("") == {}
    rules = load_rules(f"half={DAMPED}, slow.down={DAMPED},")
    assert list(rules) == ["half", "slow.down"]


@pytest.mark.parametrize("name", ["FedAvg", "Custom", "", "9lives", "a b", "x" * 65])
def test_a_rule_has_a_name_of_its_own(name: str) -> None:
    with pytest.raises(RuleNameWrong):
        load_rules(f"{name}={DAMPED}")


def test_no_two_rules_have_the_same_name_and_each_has_one() -> None:
    with pytest.raises(RuleNameWrong, match="another one is called so"):
        load_rules(f"half={DAMPED},half={DAMPED}")
    with pytest.raises(RuleNotLoaded, match=r"name=package\.module:function"):
        load_rules(DAMPED)


def test_strategies_are_ours_then_the_operators() -> None:
    listed = {one.name: one for one in strategies(load_rules(f"half={DAMPED}"))}
    assert list(listed)[:2] == ["FedAvg", "FedProx"]
    assert list(listed)[-1] == "half"
    assert "Custom" not in listed
    assert listed["half"].summary == "w + share * (mean - w): part of the way from the model to the mean."
    assert listed["half"].options["properties"] == {
        "share": {"default": 0.5, "maximum": 1, "minimum": 0, "title": "Share", "type": "number"}
    }


def test_every_strategy_of_ours_says_what_it_does_and_what_it_takes() -> None:
    for one in strategies({}):
        assert one.summary
        assert "\n" not in one.summary
        assert "'name'" not in str(one.options.get("properties"))
        assert " ".join(str(one.options["description"]).split()).startswith(one.summary)


def test_a_strategy_is_made_by_its_name() -> None:
    rules = load_rules(f"half={DAMPED}")
    assert strategy("FedAdam", {"eta": 1}, rules) == FedAdam(eta=1.0)
    assert strategy("half", {"share": 0.25}, rules) == Custom(rule="half", options={"share": 0.25})
    with pytest.raises(ValidationError):
        strategy("FedAdam", {"beta": 1}, rules)
    with pytest.raises(ValidationError):
        strategy("half", {"share": 7}, rules)
    with pytest.raises(UnknownStrategy, match=r"no strategy 'FedSum' here; there are FedAvg, .*, half"):
        strategy("FedSum", {}, rules)


@pytest.mark.parametrize("service", ["api", "aggregator"])
def test_a_service_with_a_rule_that_cannot_be_loaded_says_so_and_does_not_start(service: str) -> None:
    endpoints, logins = Record.fresh().endpoints, Logins.fresh()
    variable = f"WARREN_{service.upper()}_STRATEGIES"
    env = {**environment(service, endpoints, logins), variable: "mine=tests.rules:thawed"}
    started = subprocess.run(
        (sys.executable, "-m", f"services.{service}"), env=env, capture_output=True, text=True, check=False
    )
    assert started.returncode == 1
    assert started.stderr.startswith(f"these settings do not work: {variable}: no rule can be loaded from")
    assert started.stderr.count("\n") == 1
