"""Clients evaluate a new model on their own data."""

from typing import Any

import pytest

from schemas import events as e
from schemas.message import MAX_EXAMPLES, MAX_METRICS
from schemas.words import TaskKind
from services.scheduler.saga import Step
from services.scheduler.state import Training
from tests.builders import (
    ANA,
    BEN,
    CLEO,
    a_round,
    a_training,
    evaluation_timed_out,
    events_of,
    failed,
    measured,
    play,
    refused,
    round_timed_out,
    steps,
    types,
    uploaded,
)


def evaluating(*clients: Any, **plan: Any) -> Training:
    return play(a_training(*clients, **{"evaluate_every": 1, **plan}), *a_round(*clients))[-1]


def ended(*taken: Step) -> e.EvaluationEnded:
    (found,) = (each for each in events_of(*taken) if isinstance(each, e.EvaluationEnded))
    return found


def test_every_kth_round_is_evaluated_and_so_is_the_last() -> None:
    training, evaluated = a_training(ANA, rounds=5, evaluate_every=2), []
    for number in range(5):
        *_, training = play(training, *a_round(ANA, round=number))
        if training.round is not None and training.round.phase == "evaluating":
            evaluated.append(number)
            *_, training = play(training, measured(ANA, round=number))
    assert evaluated == [1, 3, 4]
    assert training.is_over


def test_metrics_are_means_counted_by_examples() -> None:
    taken = steps(
        evaluating(ANA, BEN),
        measured(ANA, num_examples=1, metrics={"loss": 4.0}),
        measured(BEN, num_examples=3, metrics={"loss": 0.0, "auc": 0.5}),
    )
    assert (ended(*taken).metrics, ended(*taken).num_examples) == ({"loss": 1.0, "auc": 0.5}, 4)
    assert types(events_of(taken[-1])) == ["MetricsReported", "EvaluationEnded", "TrainingCompleted"]


def test_an_evaluation_ends_at_its_deadline_with_who_is_there() -> None:
    taken = steps(evaluating(ANA, BEN, CLEO), measured(BEN), evaluation_timed_out())
    assert ended(*taken).missing == (ANA, CLEO)
    assert events_of(taken[-1])[-1].type == "TrainingCompleted"


def test_an_evaluation_goes_on_without_those_who_fail_or_leave() -> None:
    failures = (failed(BEN, kind=TaskKind.EVALUATE, issue=issue) for issue in (1, 2))
    taken = steps(evaluating(ANA, BEN, CLEO), refused(CLEO), *failures, measured(ANA))
    assert ended(*taken).missing == (BEN, CLEO)


def test_a_training_whose_participants_all_left_completes_without_an_evaluation() -> None:
    begun = a_training(ANA, evaluate_every=1)
    taken = steps(begun, uploaded(ANA), refused(ANA), *a_round(ANA)[1:])
    assert types(events_of(taken[-1])) == ["RoundAggregated", "TrainingCompleted"]


@pytest.mark.parametrize(
    "message",
    [
        evaluation_timed_out(round=1),
        round_timed_out(),
        uploaded(ANA),
        uploaded(ANA, kind=TaskKind.EVALUATE),
        measured(CLEO),
        measured(ANA, round=1),
    ],
    ids=lambda m: m.type,
)
def test_what_an_evaluation_does_not_wait_for_decides_nothing(message: Any) -> None:
    assert events_of(*steps(evaluating(ANA, BEN), message)) == ()


@pytest.mark.parametrize("values", [(1e308, 1e308), (1e308, -1e308), (5e-324, -0.0)])
def test_hostile_figures_never_stop_a_training(values: tuple[float, float]) -> None:
    reports = (
        measured(client, num_examples=MAX_EXAMPLES, metrics={"loss": value, "ok": 1.0})
        for client, value in zip((ANA, BEN), values, strict=True)
    )
    taken = steps(evaluating(ANA, BEN), *reports)
    assert ended(*taken).metrics["ok"] == 1.0
    assert taken[-1].training is not None
    assert taken[-1].training.is_over


def test_of_too_many_metrics_those_that_most_clients_reported_are_kept() -> None:
    mine, theirs = ({f"{who}{n:02}": 1.0 for n in range(MAX_METRICS - 1)} for who in "ab")
    taken = steps(
        evaluating(ANA, BEN),
        measured(ANA, metrics={**mine, "loss": 1.0}),
        measured(BEN, metrics={**theirs, "loss": 3.0}),
    )
    assert len(ended(*taken).metrics) == MAX_METRICS
    assert ended(*taken).metrics["loss"] == 2.0
