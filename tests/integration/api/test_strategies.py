"""Strategies: listed, asked for in the demonstrator's words and in ours, checked, and shown."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
import torch

from services.api.settings import Settings
from tests.integration.api.conftest import running
from tests.integration.api.drive import Api, User, a_plan, safetensors, told

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="session")]

NOBODY = "6f0a5c5e-8b1f-5a52-9a43-2d3f4b0c7e11"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def with_rules(api_settings: Settings) -> AsyncIterator[Api]:
    """An API whose operator has a rule of its own."""
    async with running(api_settings, strategies="damped=tests.rules:damped") as served:
        yield served


async def test_every_user_sees_what_strategies_there_are_and_what_they_take(api: Api) -> None:
    ana = await api.join()
    listed = (await ana.call("GET", "/strategies/")).json()
    names = [one["name"] for one in listed]
    assert names[:3] == ["FedAvg", "FedProx", "FedAvgM"]
    assert "SCAFFOLD" in names
    assert "Custom" not in names
    trimmed = next(one for one in listed if one["name"] == "FedTrimmedAvg")
    assert trimmed["summary"].startswith("Per coordinate the unweighted mean of what is left")
    beta = trimmed["options"]["properties"]["beta"]
    assert (beta["default"], beta["minimum"], beta["exclusiveMaximum"]) == (0.2, 0, 0.5)
    assert (await api.http.get("/api/strategies/")).status_code == 401


async def test_rules_of_the_operator_are_listed_and_can_be_asked_for(with_rules: Api) -> None:
    ana = await with_rules.join()
    last = (await ana.call("GET", "/strategies/")).json()[-1]
    assert (last["name"], list(last["options"]["properties"])) == ("damped", ["share"])
    custom = {"name": "Custom", "rule": "damped", "options": {"share": 0.25}}
    for asked in ({"name": "damped", "share": 0.25}, custom):
        seen = await _created(ana, strategy=asked)
        assert (seen["strategy"], seen["aggregation_method"]) == (custom, "damped")
    assert (await _created(ana, aggregation_method="damped"))["strategy"]["options"] == {}


@pytest.mark.parametrize(
    ("asked", "field", "sentence"),
    [
        ({"name": "damped", "share": 2}, "strategy.share", "less than or equal to 1"),
        ({"name": "damped", "speed": 2}, "strategy.speed", "Extra inputs"),
        ({"name": "os:system"}, "strategy", "there is no strategy 'os:system' here; there are FedAvg"),
        ({"name": "tests.rules"}, "strategy", "there is no strategy 'tests.rules' here; there are FedAvg"),
        ({"name": "Custom", "rule": "os:system"}, "strategy", "there is no strategy 'os:system' here"),
        ({"name": "Custom"}, "strategy.rule", "Field required"),
    ],
)
async def test_a_caller_names_registered_rules_only_and_their_options_are_checked(
    with_rules: Api, asked: dict[str, Any], field: str, sentence: str
) -> None:
    ana = await with_rules.join()
    answer = await _asked(ana, NOBODY, strategy=asked)
    assert told(answer) == (400, "bad_input")
    assert sentence in " ".join(answer.json().get(field, [])), answer.json()


@pytest.mark.parametrize(
    ("fields", "strategy", "rounds"),
    [
        ({}, {"name": "FedAvg", "weighting": "examples", "cap": None, "client_weights": {}}, 3),
        ({"aggregation_method": "FedProx"}, {"name": "FedProx", "mu": 0.01}, 3),
        ({"aggregation_method": "FedDC"}, {"name": "FedDC", "period": 1}, 3),
        ({"aggregation_method": "FedMedian"}, {"name": "FedMedian"}, 3),
        ({"options": {"daisy_chain_period": 0}}, {"name": "FedAvg"}, 3),
        ({"options": {"daisy_chain_period": 4}}, {"name": "FedDC", "period": 4}, 12),
        (
            {"aggregation_method": "FedDC", "options": {"daisy_chain_period": 2}},
            {"name": "FedDC", "period": 2},
            6,
        ),
        ({"uncertainty_method": "SWAG"}, {"name": "SWAG", "rounds": 1, "samples": 10}, 3),
    ],
)
async def test_the_demonstrators_words_mean_strategies_of_ours(
    api: Api, fields: dict[str, Any], strategy: dict[str, Any], rounds: int
) -> None:
    seen = await _created(await api.join(), **{"uncertainty_method": "NONE", **fields})
    assert strategy.items() <= seen["strategy"].items()
    assert (seen["aggregation_method"], seen["target_num_updates"]) == (strategy["name"], rounds)


async def test_a_strategy_is_asked_for_in_full_with_the_fields_of_the_plan(api: Api) -> None:
    fields = {
        "strategy": {"name": "FedAdam", "eta": 0.05, "b2": 0.999},
        "update": "delta",
        "partial": True,
        "norm_clip": 10,
        "buffers": ["*.mean"],
        "best": {"metric": "accuracy", "patience": 2, "min_delta": 0.01},
        "seed": 11,
    }
    seen = await _created(await api.join(), **fields)
    assert seen["strategy"] == {"name": "FedAdam", "eta": 0.05, "b1": 0.9, "b2": 0.999, "tau": 1e-9}
    plan = seen["plan"]
    assert {name: plan[name] for name in ("update", "partial", "norm_clip", "buffers", "seed")} == {
        "update": "delta",
        "partial": True,
        "norm_clip": 10.0,
        "buffers": ["*.mean"],
        "seed": 11,
    }
    assert plan["best"] == {"metric": "accuracy", "mode": "max", "patience": 2, "min_delta": 0.01}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"strategy": {"name": "FedSum"}}, "strategy"),
        ({"strategy": {}}, "strategy.name"),
        ({"strategy": "FedAvg"}, "strategy"),
        ({"strategy": {"name": "FedAvg", "cap": 5}}, "strategy"),
        ({"strategy": {"name": "FedAvg", "weighting": "loudest"}}, "strategy.weighting"),
        (
            {"strategy": {"name": "FedAvg", "client_weights": {NOBODY: 2}}},
            f"strategy.client_weights.{NOBODY}",
        ),
        ({"strategy": {"name": "FedProx", "mu": -1}}, "strategy.mu"),
        ({"strategy": {"name": "FedTrimmedAvg", "beta": 0.5}}, "strategy.beta"),
        ({"strategy": {"name": "Krum", "f": 1.5}}, "strategy.f"),
        ({"strategy": {"name": "FedAdam", "b3": 0.9}}, "strategy.b3"),
        ({"strategy": {"name": "FedDC", "period": 2}}, "body"),
        ({"strategy": {"name": "SWAG", "rounds": 4}}, "body"),
        ({"strategy": {"name": "FedAvg"}, "aggregation_method": "FedProx"}, "aggregation_method"),
        (
            {"strategy": {"name": "FedDC", "period": 3}, "options": {"daisy_chain_period": 3}},
            "options.daisy_chain_period",
        ),
        ({"strategy": {"name": "FedAvg"}, "uncertainty_method": "SWAG"}, "uncertainty_method"),
        ({"aggregation_method": "Krum", "uncertainty_method": "SWAG"}, "aggregation_method"),
        ({"options": {"daisy_chain_period": 2}, "uncertainty_method": "SWAG"}, "options.daisy_chain_period"),
        ({"aggregation_method": "Krum", "options": {"daisy_chain_period": 2}}, "options.daisy_chain_period"),
        ({"options": {"daisy_chain_period": -1}}, "options.daisy_chain_period"),
        ({"aggregation_method": "Custom"}, "aggregation_method.rule"),
        ({"update": "gradient"}, "update"),
        ({"norm_clip": 0}, "norm_clip"),
        ({"best": {"metric": "accuracy", "patience": 0}}, "best.patience"),
        ({"best": {"metric": "accuracy"}, "evaluation": {"every": 0}}, "body"),
        ({"buffers": [""]}, "buffers.0"),
    ],
)
async def test_what_is_wrong_with_a_strategy_is_said_under_its_field(
    api: Api, change: dict[str, Any], field: str
) -> None:
    answer = await _asked(await api.join(), NOBODY, **change)
    assert told(answer) == (400, "bad_input")
    assert field in answer.json(), answer.json()


async def test_an_unknown_strategy_is_answered_with_those_there_are(api: Api) -> None:
    answer = await _asked(await api.join(), NOBODY, aggregation_method="MethodK")
    assert "no strategy 'MethodK' here; there are FedAvg, FedProx" in answer.json()["detail"]


async def test_weights_are_of_clients_that_take_part_and_somebody_counts(api: Api) -> None:
    ana, site, other = await api.join(), await api.site(), await api.site()
    model = await ana.model()
    for weights in ({other.id: 0.5}, {site.id: 0}):
        asked = {"name": "FedAvg", "client_weights": weights}
        answer = await _asked(ana, model, strategy=asked, clients=[site.id])
        assert "strategy.client_weights" in answer.json()
        assert told(answer) == (400, "bad_input")


async def test_weights_of_a_training_without_clients_are_checked_when_it_starts(api: Api) -> None:
    ana, site, other = await api.join(), await api.site(), await api.site()
    asked = {"name": "FedProx", "client_weights": {other.id: 0.5}}
    id_ = await ana.training(strategy=asked, aggregation_method=None)
    await ana.call("PUT", f"/trainings/{id_}/clients/", json={"clients": [site.id]})
    assert told(await ana.call("POST", f"/trainings/{id_}/start/")) == (409, "weights_do_not_fit")
    await ana.call("PUT", f"/trainings/{id_}/clients/", json={"clients": [other.id]})
    assert (await ana.call("POST", f"/trainings/{id_}/start/")).status_code == 202


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"strategy": {"name": "Bulyan", "f": 1}}, "strategy Bulyan needs at least 7 clients"),
        ({"strategy": {"name": "MultiKrum", "k": 3}}, "strategy MultiKrum needs at least 3 clients"),
        (
            {"strategy": {"name": "Krum", "f": 0}, "participation": {"min_clients": 4}},
            "participation.min_clients needs at least 4 clients",
        ),
    ],
)
async def test_a_training_with_too_few_clients_for_its_rule_does_not_start(
    api: Api, fields: dict[str, Any], why: str
) -> None:
    ana, sites = await api.join(), (await api.site(), await api.site())
    id_ = await ana.training(clients=sites, aggregation_method=None, **fields)
    answer = await ana.call("POST", f"/trainings/{id_}/start/")
    assert told(answer) == (409, "too_few_clients")
    assert answer.json()["detail"] == f"{why}, and the training has 2"


@pytest.mark.parametrize("name", ["control/weight", "second_moment/weight"])
async def test_a_model_with_names_of_what_travels_beside_it_is_refused(api: Api, name: str) -> None:
    ana = await api.join()
    answer = await ana.upload(safetensors({"weight": torch.zeros(2), name: torch.zeros(2)}))
    assert told(answer) == (400, "reserved_tensor_name")


async def _created(user: User, **fields: Any) -> dict[str, Any]:
    told_ = {"aggregation_method": None, **fields}
    id_ = await user.training(**told_)
    seen: dict[str, Any] = (await user.call("GET", f"/trainings/{id_}/")).json()
    return seen


async def _asked(user: User, model: str, **fields: Any) -> httpx.Response:
    told_ = {"aggregation_method": None, "uncertainty_method": "NONE", **fields}
    return await user.call("POST", "/trainings/", json=a_plan(model, **told_))
