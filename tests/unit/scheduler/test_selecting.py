"""The best version, and when a training stops for want of a better one."""

from collections.abc import Sequence
from typing import Any

import pytest

from schemas import commands as c
from schemas import events as e
from schemas.plan import BestModel
from schemas.words import Mode, Outcome, TrainingState
from services.scheduler.decide import Input
from services.scheduler.orders import Send
from services.scheduler.saga import Step
from services.scheduler.selecting import after_evaluation
from services.scheduler.state import Best
from tests.builders import (
    ANA,
    a_model,
    a_round,
    a_training,
    evaluation_timed_out,
    events_of,
    failed,
    measured,
    round_timed_out,
    steps,
)


def trained(values: Sequence[float | None], rounds: int | None = None, **best: Any) -> tuple[Step, ...]:
    """A training whose versions are evaluated to these values of `auc`."""
    plan = {"rounds": rounds or len(values), "evaluate_every": 1}
    training = a_training(ANA, **plan, best=BestModel(metric="auc", **best))
    messages: list[Input] = []
    for number, value in enumerate(values):
        metrics = {"loss": 1.0} if value is None else {"auc": value}
        messages += [*a_round(ANA, round=number), measured(ANA, round=number, metrics=metrics)]
    return steps(training, *messages)


def completed(taken: tuple[Step, ...]) -> e.TrainingCompleted:
    (found,) = (event for event in events_of(*taken) if isinstance(event, e.TrainingCompleted))
    return found


@pytest.mark.parametrize(
    ("values", "options", "version"),
    [
        ((0.1, 0.3, 0.2), {}, 2),
        ((0.1, 0.3, 0.2), {"mode": Mode.MIN}, 1),
        ((0.3, 0.3, 0.3), {}, 1),
        ((0.25, 0.5, 0.75), {"min_delta": 0.25}, 3),
        ((0.75, 0.5, 0.25), {"min_delta": 0.25, "mode": Mode.MIN}, 3),
        ((0.25, 0.5, 0.625), {"min_delta": 0.3}, 3),
        ((0.25, 0.5, 0.5), {"min_delta": 0.3}, 1),
        ((None, -1.0, None), {}, 2),
        ((-1.0, None, 0.0), {"mode": Mode.MIN}, 1),
        ((0.0, -0.0, 1e-300), {}, 3),
        ((-1e307, 1e307, 0.0), {"min_delta": 1.0}, 2),
    ],
)
def test_the_best_version_is_the_first_that_no_later_one_passes(
    values: Sequence[float | None], options: dict[str, Any], version: int
) -> None:
    assert completed(trained(values, **options)).best == a_model(version)


def test_an_improvement_of_exactly_min_delta_is_none() -> None:
    assert completed(trained((0.25, 0.5), min_delta=0.25)).best == a_model(1)


def test_the_last_version_stays_the_trainings_model() -> None:
    assert completed(trained((0.5, 0.25))).model == a_model(2)


def test_a_training_ends_early_once_patience_is_used_up_and_says_why() -> None:
    taken = trained((0.25, 0.5, 0.25, 0.5), rounds=9, patience=2)
    ended = completed(taken)
    assert (ended.best, ended.model) == (a_model(2), a_model(4))
    assert ended.reason == "no better auc in 2 evaluations; the best is 0.5 of version 2"
    assert taken[-1].training is not None
    assert (taken[-1].training.state, taken[-1].training.reason) == (TrainingState.COMPLETED, ended.reason)


def test_participants_are_told_why_a_training_ended_early() -> None:
    taken = trained((0.5, 0.25), rounds=9, patience=1)
    commands = (order.command for order in taken[-1].orders if isinstance(order, Send))
    (told,) = (command for command in commands if isinstance(command, c.TrainingEnded))
    assert (told.outcome, told.reason) == (Outcome.COMPLETED, completed(taken).reason)
    assert told.model == a_model(2)


def test_a_better_version_restores_the_patience() -> None:
    assert completed(trained((0.1, 0.05, 0.2, 0.15, 0.3), patience=2)).reason is None


def test_without_patience_a_training_goes_on_to_its_last_round() -> None:
    ended = completed(trained((0.5, 0.4, 0.3, 0.2)))
    assert (ended.reason, ended.best, ended.model) == (None, a_model(1), a_model(4))


def test_in_the_last_round_a_training_ends_because_it_is_the_last() -> None:
    assert completed(trained((0.5, 0.4), patience=1)).reason is None


def test_a_metric_that_nobody_reports_is_not_better_and_uses_up_the_patience() -> None:
    ended = completed(trained((None, None), rounds=9, patience=2))
    assert (ended.best, ended.model) == (None, a_model(2))
    assert ended.reason == "no better auc in 2 evaluations; the best is none"


def test_an_evaluation_that_nobody_answers_uses_up_the_patience() -> None:
    training = a_training(ANA, rounds=9, evaluate_every=1, best=BestModel(metric="auc", patience=1))
    assert completed(steps(training, *a_round(ANA), evaluation_timed_out())).best is None


def test_rounds_without_an_evaluation_use_up_no_patience() -> None:
    best = BestModel(metric="auc", patience=1)
    training = a_training(ANA, rounds=4, evaluate_every=2, best=best)
    first = (*a_round(ANA), *a_round(ANA, round=1), measured(ANA, round=1, metrics={"auc": 0.5}))
    taken = steps(training, *first, *a_round(ANA, round=2))
    assert taken[-1].training is not None
    assert not taken[-1].training.is_over


def test_a_training_that_selects_nothing_completes_without_a_best() -> None:
    taken = steps(a_training(ANA, evaluate_every=1), *a_round(ANA), measured(ANA))
    assert (completed(taken).best, completed(taken).reason) == (None, None)


def test_a_training_that_fails_later_keeps_the_best_of_its_state() -> None:
    best = BestModel(metric="auc")
    training = a_training(ANA, rounds=2, evaluate_every=1, best=best, round_attempts=1, task_attempts=1)
    first = (*a_round(ANA), measured(ANA, metrics={"auc": 0.5}))
    *_, last = steps(training, *first, failed(ANA, round=1), round_timed_out(round=1))
    assert last.training is not None
    assert (last.training.state, last.training.best.model) == (TrainingState.FAILED, a_model(1))


def test_evaluations_are_counted_since_the_best() -> None:
    by, best = BestModel(metric="auc"), Best()
    for value in (0.5, 0.25, 0.25):
        best = after_evaluation(best, by, a_model(1), {"auc": value})
    assert best == Best(a_model(1), 0.5, 2)
