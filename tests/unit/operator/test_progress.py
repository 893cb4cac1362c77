"""What somebody who watches a training knows of it."""

import pytest

from agents.operator.progress import Progress
from schemas import events as e
from schemas.words import TrainingState
from tests.builders import ANA, BEN, TRAINING, a_model, a_task
from tests.unit.operator.happenings import (
    a_close,
    a_completion,
    a_round,
    a_start,
    an_aggregation,
    an_evaluation,
    an_upload,
    seen,
)


def test_nothing_is_known_of_a_training_that_has_not_begun() -> None:
    assert Progress().current is None
    assert not Progress().is_over


def test_uploads_are_counted_against_what_the_round_asked_for() -> None:
    current = seen(a_start(ANA, BEN), a_round(ANA, BEN), an_upload(ANA, 0.5)).current
    assert current
    assert (len(current.uploads), current.expected) == (1, 2)


def test_the_train_loss_counts_each_client_by_its_examples() -> None:
    progress = seen(a_start(ANA, BEN), a_round(ANA, BEN), an_upload(ANA, 1.0, 10), an_upload(BEN, 0.0, 30))
    assert progress.current
    assert progress.current.mean_of("train_loss") == 0.25
    assert progress.current.mean_of("something else") is None


def test_a_round_has_its_updates_model_metrics_and_seconds() -> None:
    (done,) = seen(
        a_start(ANA), a_round(ANA), an_upload(ANA, 1), a_close(ANA), an_aggregation(), an_evaluation(loss=0.5)
    ).rounds
    assert (done.accepted, done.sha256, done.metrics, done.seconds) == (
        1,
        a_model(1).sha256,
        {"loss": 0.5},
        4,
    )


def test_another_attempt_takes_the_place_of_the_one_before() -> None:
    progress = seen(a_start(ANA), a_round(ANA), an_upload(ANA, 1), a_round(ANA, attempt=2))
    assert [(each.attempt, dict(each.uploads)) for each in progress.rounds] == [(2, {})]


def test_a_round_of_a_chain_ends_without_a_model() -> None:
    chained = e.RoundChained(training_id=TRAINING, round=0, attempt=1, accepted=(a_task(ANA),))
    (done,) = seen(a_start(ANA), a_round(ANA), an_upload(ANA, 1), chained).rounds
    assert (done.accepted, done.sha256, done.ended_at is not None) == (1, None, True)


def test_rounds_follow_each_other() -> None:
    progress = seen(a_start(ANA), a_round(ANA), an_aggregation(), a_round(ANA, number=1))
    assert [each.number for each in progress.rounds] == [0, 1]
    assert progress.seq == 4


@pytest.mark.parametrize(
    ("end", "state"),
    [
        (a_completion(), TrainingState.COMPLETED),
        (e.TrainingFailed(training_id=TRAINING, reason="nobody came"), TrainingState.FAILED),
        (e.TrainingAborted(training_id=TRAINING, reason="enough"), TrainingState.ABORTED),
    ],
)
def test_every_end_is_seen(end: e.Event, state: TrainingState) -> None:
    progress = seen(a_start(ANA), end)
    assert progress.is_over
    assert progress.state is state


def test_a_completed_training_names_its_final_model() -> None:
    assert seen(a_start(ANA), a_completion()).sha256 == a_model(2).sha256
