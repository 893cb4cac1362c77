"""What the demo asks for and what it says in the end."""

import json
import re
from dataclasses import replace
from uuid import UUID

import pytest

from agents.operator.demo import course
from agents.operator.demo.verdict import Outcome, faults, final_line
from agents.operator.errors import CommandFailed
from schemas.catalogue import BUILT_IN
from services.api.bodies import NewTraining
from services.api.plans import plan_of
from tests.builders import digest_of

SHA = digest_of("the final model")
GOOD = Outcome(rounds=6, told_accuracy=0.98, accuracy=0.98, baseline=0.99, announced_sha256=SHA, sha256=SHA)


def test_the_ids_of_the_sites_follow_from_their_names_for_ever() -> None:
    assert course.site_id("ana") == UUID("86cec52c-bbb1-5d36-ba38-fc8017651769")
    assert len(course.NAMES) == 4


def test_the_api_takes_the_training_as_the_demo_describes_it() -> None:
    body = json.dumps(course.training(UUID(int=1), rounds=6, seed=7))
    plan = plan_of(NewTraining.model_validate_json(body), {})
    assert (plan.rounds, plan.participation.min_clients, plan.evaluation.every) == (6, 4, 1)


def test_the_last_line_has_the_promised_form() -> None:
    assert final_line(GOOD, 24.96) == (
        f"demo: completed rounds=6 clients=4 accuracy=0.9800 baseline=0.9900 seconds=25.0 model={SHA}"
    )


def test_a_good_outcome_has_no_faults() -> None:
    assert faults(GOOD) == ()


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_strategy_has_options_with_which_four_sites_and_six_rounds_suffice(name: str) -> None:
    body = course.training(UUID(int=1), rounds=6, seed=7, by=course.strategy(name, {}))
    plan = plan_of(NewTraining.model_validate_json(json.dumps(body)), {})
    assert plan.strategy.name == name
    assert plan.quorum == len(course.SITES)


def test_options_that_are_asked_for_go_before_those_of_the_demo() -> None:
    assert course.strategy("FedDC", {}) == {"name": "FedDC", "period": 2}
    assert course.strategy("FedDC", {"period": 3}) == {"name": "FedDC", "period": 3}


def test_wrong_options_are_told_before_anything_is_started() -> None:
    with pytest.raises(CommandFailed, match=r"--options of FedTrimmedAvg: beta: .* less than 0\.5"):
        course.strategy("FedTrimmedAvg", {"beta": 0.5})


def test_a_strategy_that_is_not_the_mean_is_not_held_against_the_baseline() -> None:
    slower = replace(GOOD, accuracy=0.91, told_accuracy=0.91, strategy="FedAdam")
    assert faults(slower) == ()
    assert faults(replace(slower, strategy="FedProx"))


def test_one_site_alone_need_not_know_every_digit() -> None:
    alone = replace(GOOD, accuracy=0.75, told_accuracy=0.75, strategy="Krum")
    assert faults(alone) == ()
    assert faults(replace(alone, strategy="MultiKrum"))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"accuracy": 0.92, "told_accuracy": 0.92, "baseline": 0.93}, "is below 0.93"),
        ({"accuracy": 0.94, "told_accuracy": 0.94, "baseline": 0.985}, "more than 0.04 behind the baseline"),
        ({"sha256": digest_of("another")}, "announced was"),
        ({"told_accuracy": 0.97}, "the sites measured"),
    ],
)
def test_each_thing_that_is_wrong_is_told(changes: dict[str, float], told: str) -> None:
    (fault,) = faults(replace(GOOD, **changes))  # type: ignore[arg-type]  # figures and texts by name
    assert re.search(told, fault)
