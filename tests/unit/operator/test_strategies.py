"""`warren strategies`: all of them, or one with its formula and its options."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, Field

from agents.operator.__main__ import main
from agents.operator.options import told_object
from agents.operator.settings import rules_environment
from agents.operator.strategy_tables import options_table
from schemas.catalogue import BUILT_IN, built_in, described
from schemas.refusal import Refusal

Warren = Callable[..., str]


@pytest.fixture
def warren(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Warren:
    def run(*arguments: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["warren", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert int(ended.value.code or 0) == code
        said, complained = capfd.readouterr()
        return complained if code else said

    monkeypatch.chdir(tmp_path)
    return run


def cells(table: object) -> list[tuple[str, ...]]:
    columns = [list(column.cells) for column in table.columns]  # type: ignore[attr-defined]  # rich's table
    return list(zip(*columns, strict=True))


def test_where_nothing_runs_warrens_own_are_listed(warren: Warren) -> None:
    listed = json.loads(warren("strategies", "--json"))
    assert [one["name"] for one in listed] == list(BUILT_IN)
    said = warren("strategies")
    assert all(name in said for name in BUILT_IN)


def test_one_is_shown_with_its_formula_and_its_options(warren: Warren) -> None:
    said = warren("strategies", "fedadam")
    assert "m = b1 m + (1-b1) D" in said
    assert "ICLR 2021" in said
    assert "b2" in said
    one = json.loads(warren("strategies", "FedAdam", "--json"))
    assert one["options"]["properties"]["b2"]["default"] == 0.99


def test_one_that_is_not_there_is_answered_with_those_that_are(warren: Warren) -> None:
    assert "there is no strategy 'FedSum' here; there are FedAvg," in warren("strategies", "FedSum", code=1)


def test_options_are_shown_with_type_default_and_range() -> None:
    shown = {one.name: cells(options_table(one)) for one in built_in()}
    assert shown["FedTrimmedAvg"] == [("beta", "number", "0.2", ">= 0, < 0.5")]
    assert shown["FedAvg"] == [
        ("weighting", "examples | uniform | capped", "examples", ""),
        ("cap", "integer", "none", ">= 1, <= 2147483647"),
        ("client_weights", "object of numbers", "none", ">= 0, <= 1"),
    ]
    assert ("nesterov", "boolean", "false", "") in shown["FedAvgM"]
    assert shown["FedMedian"] == []


class Needed(BaseModel):
    model_config = ConfigDict(frozen=True)

    share: float = Field(gt=0)


def test_an_option_without_a_default_is_required() -> None:
    assert cells(options_table(described("mine", Needed, Needed))) == [("share", "number", "required", "> 0")]


@pytest.mark.parametrize("text", ["", "{", "[1]", "3"])
def test_what_is_no_json_object_is_refused_with_the_option_it_was_given_for(text: str) -> None:
    with pytest.raises(Refusal, match="--options takes a JSON object"):
        told_object(text, "--options")


def test_rules_of_ones_own_reach_the_services_that_are_started(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rules_environment() == {}
    monkeypatch.setenv("WARREN_STRATEGIES", "damped=tests.rules:damped")
    assert rules_environment() == {
        "WARREN_API_STRATEGIES": "damped=tests.rules:damped",
        "WARREN_AGGREGATOR_STRATEGIES": "damped=tests.rules:damped",
    }
