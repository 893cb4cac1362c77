"""How a round goes on, and how it ends."""

from datetime import timedelta
from uuid import UUID

import pytest

from schemas import events as e
from schemas.ids import ClientId
from schemas.words import Phase, TrainingState
from services.scheduler.phases import drawn
from tests.builders import (
    ANA,
    BEN,
    CLEO,
    DAN,
    NOON,
    a_model,
    a_plan,
    a_round,
    a_task,
    a_training,
    abort,
    accepted,
    add,
    aggregation,
    events_of,
    failed,
    lost,
    measured,
    play,
    published,
    reduced,
    refused,
    rejected,
    remove,
    round_timed_out,
    start,
    steps,
    taken_in,
    types,
    uploaded,
)


def test_a_training_runs_its_rounds_and_completes_with_the_last_model() -> None:
    taken = steps(None, start(ANA, plan=a_plan(rounds=2)), *a_round(ANA, round=0), *a_round(ANA, round=1))
    a_whole_round = ["ModelUploaded", "UpdateAccepted", "RoundClosed", "ShardReduced", "ShardReduced"]
    assert types(events_of(*taken)) == [
        "TrainingStarted",
        "RoundStarted",
        *a_whole_round,
        "RoundAggregated",
        "RoundStarted",
        *a_whole_round,
        "RoundAggregated",
        "TrainingCompleted",
    ]
    assert events_of(taken[-1])[-1] == e.TrainingCompleted(training_id=start().training_id, model=a_model(2))


def test_a_round_closes_once_every_update_is_inspected() -> None:
    states = play(a_training(ANA, BEN), uploaded(BEN), uploaded(ANA), accepted(ANA), accepted(BEN))
    assert [state.round and state.round.phase for state in states] == [
        *[Phase.TRAINING] * 3,
        Phase.AGGREGATING,
    ]


def test_the_accepted_set_is_in_the_order_of_clients_not_of_arrival() -> None:
    (closed,) = (
        each
        for each in events_of(*steps(a_training(ANA, BEN), *taken_in(BEN, ANA)))
        if isinstance(each, e.RoundClosed)
    )
    assert closed.accepted == (a_task(ANA), a_task(BEN))


def test_a_client_that_rejects_leaves_and_the_round_goes_on_without_it() -> None:
    taken = steps(a_training(ANA, BEN), *taken_in(ANA), refused(BEN))
    assert types(events_of(taken[-1])) == ["ClientRejected", "ParticipantRemoved", "RoundClosed"]
    assert taken[-1].training is not None
    assert taken[-1].training.participants == (ANA,)


def test_a_client_that_rejects_after_its_update_still_counts_in_this_round() -> None:
    taken = steps(a_training(ANA, BEN), *taken_in(ANA), refused(ANA), *taken_in(BEN))
    (closed,) = (each for each in events_of(*taken) if isinstance(each, e.RoundClosed))
    assert closed.accepted == (a_task(ANA), a_task(BEN))


def test_a_failed_task_is_issued_again_up_to_the_limit_and_then_the_round_goes_without() -> None:
    training = a_training(ANA, BEN, task_attempts=3)
    attempts = (failed(BEN, issue=issue) for issue in (1, 2, 3))
    taken = steps(training, *taken_in(ANA), *attempts)
    assert [types(events_of(each)) for each in taken[2:]] == [
        ["TaskFailed", "TaskReissued"],
        ["TaskFailed", "TaskReissued"],
        ["TaskFailed", "RoundClosed"],
    ]


def test_a_rejected_update_is_asked_for_again_up_to_the_limit() -> None:
    training = a_training(ANA, BEN, task_attempts=2)
    again = (uploaded(BEN), rejected(BEN), uploaded(BEN, issue=2), rejected(BEN, issue=2))
    taken = steps(training, *taken_in(ANA), *again)
    assert types(events_of(*taken[2:])) == [
        "ModelUploaded",
        "UpdateRejected",
        "TaskReissued",
        "ModelUploaded",
        "UpdateRejected",
        "RoundClosed",
    ]


def test_a_model_of_one_shard_is_reduced_by_whoever_publishes_it_and_keeps_its_layout() -> None:
    one_shard = start(ANA, model=a_model(size=16), plan=a_plan())
    taken = steps(None, one_shard, *taken_in(ANA), reduced(0), published(), published(size=16))
    assert [types(events_of(each)) for each in taken[3:]] == [
        [],
        [],
        ["RoundAggregated", "TrainingCompleted"],
    ]


def test_nothing_is_asked_again_of_a_client_that_has_left() -> None:
    taken = steps(a_training(ANA, BEN), *taken_in(ANA), uploaded(BEN), remove(BEN), rejected(BEN))
    assert types(events_of(taken[-1])) == ["UpdateRejected", "RoundClosed"]


def test_a_published_model_must_be_the_next_version() -> None:
    training = play(a_training(ANA), *a_round(ANA)[:-1])[-1]
    wrong = published().model_copy(update={"model": a_model(2)})
    assert events_of(*steps(training, wrong)) == ()


def test_an_update_that_is_lost_once_every_shard_is_in_is_not_needed_any_more() -> None:
    training = play(a_training(ANA, BEN), *a_round(ANA, BEN)[:-1])[-1]
    assert events_of(*steps(training, lost(BEN))) == ()


def test_nothing_is_issued_again_after_the_deadline() -> None:
    taken = steps(a_training(ANA, BEN), *taken_in(ANA), uploaded(BEN), round_timed_out(), rejected(BEN))
    assert types(events_of(taken[-1])) == ["UpdateRejected", "RoundClosed"]


def test_at_the_deadline_a_round_with_quorum_closes_once_the_inspections_are_in() -> None:
    training = a_training(ANA, BEN, CLEO, min_clients=2)
    taken = steps(training, *taken_in(ANA), uploaded(BEN), round_timed_out(), accepted(BEN))
    assert types(events_of(*taken[-2:])) == ["IntakeClosed", "UpdateAccepted", "RoundClosed"]
    (intake,) = events_of(taken[-2])
    assert isinstance(intake, e.IntakeClosed)
    assert intake.missing == (CLEO,)


def test_an_upload_after_the_deadline_does_not_count() -> None:
    training = play(a_training(ANA, BEN), uploaded(ANA), round_timed_out())[-1]
    assert events_of(*steps(training, uploaded(BEN))) == ()


def test_below_quorum_the_round_is_tried_again_with_a_new_deadline() -> None:
    later = NOON + timedelta(hours=1)
    (taken,) = steps(a_training(ANA, BEN), round_timed_out(), now=later)
    assert types(events_of(taken)) == ["IntakeClosed", "RoundAbandoned", "RoundStarted"]
    again = events_of(taken)[-1]
    assert isinstance(again, e.RoundStarted)
    assert (again.round, again.attempt, again.deadline_at) == (0, 2, later + timedelta(seconds=60))


def test_below_quorum_too_often_the_training_fails_and_names_the_missing() -> None:
    training = a_training(ANA, BEN, min_clients=2, round_attempts=2)
    taken = steps(training, round_timed_out(), *taken_in(ANA, attempt=2), round_timed_out(attempt=2))
    ended = events_of(taken[-1])[-1]
    assert isinstance(ended, e.TrainingFailed)
    assert ended.missing == (BEN,)
    assert ended.reason == f"round 0, attempt 2 of 2: 1 of at least 2 updates; missing: {BEN}"


def test_a_training_with_fewer_participants_than_its_quorum_fails_at_once() -> None:
    (taken,) = steps(None, start(ANA, plan=a_plan(min_clients=2)))
    assert types(events_of(taken)) == ["TrainingStarted", "TrainingFailed"]
    assert taken.training is not None
    assert taken.training.reason == "round 0 needs 2 participants and 1 are left"


def test_a_lost_update_closes_the_round_again_without_it_under_a_higher_epoch() -> None:
    training = play(a_training(ANA, BEN), *taken_in(ANA, BEN), reduced(0))[-1]
    (taken,) = steps(training, lost(BEN))
    found, closed = events_of(taken)
    assert isinstance(closed, e.RoundClosed)
    assert (closed.epoch, closed.accepted) == (2, (a_task(ANA),))
    assert types(events_of(*steps(taken.training, reduced(1, epoch=1), *aggregation(epoch=2)))) == [
        "ShardReduced",
        "ShardReduced",
        "RoundAggregated",
        "TrainingCompleted",
    ]
    assert found == lost(BEN)


def test_a_round_that_loses_its_quorum_while_aggregating_is_tried_again() -> None:
    training = play(a_training(ANA, BEN, min_clients=2), *taken_in(ANA, BEN))[-1]
    assert types(events_of(*steps(training, lost(ANA)))) == ["UpdateLost", "RoundAbandoned", "RoundStarted"]


def test_participants_added_during_a_round_take_part_from_the_next_one_on() -> None:
    training = a_training(ANA, rounds=2)
    taken = steps(training, add(BEN, ANA, BEN), *a_round(ANA))
    begun = [each.clients for each in events_of(*taken) if isinstance(each, e.RoundStarted)]
    assert events_of(taken[0]) == (e.ParticipantsAdded(training_id=training.id, clients=(BEN,)),)
    assert begun == [(ANA, BEN)]


def test_removing_the_last_missing_client_closes_the_round() -> None:
    training = play(a_training(ANA, BEN, CLEO), *taken_in(ANA))[-1]
    (taken,) = steps(training, remove(CLEO, BEN, CLEO, DAN))
    assert types(events_of(taken)) == ["ParticipantRemoved", "ParticipantRemoved", "RoundClosed"]


def test_a_removed_client_may_come_back() -> None:
    taken = steps(a_training(ANA, BEN, rounds=2), remove(BEN), add(BEN), *a_round(ANA))
    begun = [each.clients for each in events_of(*taken) if isinstance(each, e.RoundStarted)]
    assert begun == [(ANA, BEN)]


def test_participants_named_twice_take_part_once() -> None:
    taken = steps(None, start(BEN, ANA, BEN), *a_round(ANA, BEN))
    assert taken[-1].training is not None
    assert taken[-1].training.state is TrainingState.COMPLETED


@pytest.mark.parametrize(
    "message",
    [
        start(ANA),
        uploaded(ANA),
        uploaded(BEN, round=9),
        uploaded(BEN, attempt=2),
        uploaded(BEN, issue=2),
        uploaded(BEN).model_copy(update={"client_id": ANA}),
        uploaded(BEN).model_copy(update={"round": 1}),
        uploaded(DAN),
        accepted(ANA),
        accepted(BEN),
        rejected(BEN),
        failed(ANA),
        measured(ANA),
        lost(ANA),
        reduced(0),
        published(),
        refused(DAN),
        remove(DAN),
        add(ANA),
        round_timed_out(attempt=2),
        round_timed_out(round=1),
    ],
    ids=lambda message: message.type,
)
def test_repeated_stale_foreign_and_early_messages_decide_nothing(message: object) -> None:
    training = play(a_training(ANA, BEN), *taken_in(ANA))[-1]
    assert events_of(*steps(training, message)) == ()  # type: ignore[arg-type]  # one of Input


@pytest.mark.parametrize(
    "message",
    [reduced(0), reduced(2), reduced(1, epoch=2), published(), lost(CLEO), lost(ANA, epoch=2), uploaded(ANA)],
    ids=lambda message: message.type,
)
def test_while_aggregating_only_what_is_awaited_counts(message: object) -> None:
    training = play(a_training(ANA, BEN), *taken_in(ANA, BEN), reduced(0))[-1]
    assert events_of(*steps(training, message)) == ()  # type: ignore[arg-type]  # one of Input


@pytest.mark.parametrize(
    "message", [start(ANA), *a_round(ANA), refused(ANA), add(BEN), abort()], ids=lambda message: message.type
)
def test_a_training_that_is_over_decides_nothing(message: object) -> None:
    training = play(a_training(ANA), *a_round(ANA))[-1]
    assert events_of(*steps(training, message)) == ()  # type: ignore[arg-type]  # one of Input


def test_nothing_but_its_start_begins_a_training() -> None:
    assert events_of(*steps(None, abort(), uploaded(ANA), round_timed_out())) == ()


def test_the_same_seed_draws_the_same_clients_and_another_attempt_draws_anew() -> None:
    plan, everybody = a_plan(fraction=0.5, seed=7), (ANA, BEN, CLEO, DAN)
    lots = [drawn(plan, everybody, number, attempt) for number in range(5) for attempt in (1, 2)]
    assert lots == [drawn(plan, everybody, number, attempt) for number in range(5) for attempt in (1, 2)]
    assert {len(lot) for lot in lots} == {2}
    assert set().union(*lots) == set(everybody)
    assert len(set(lots)) > 1


@pytest.mark.parametrize(
    ("fraction", "drawn_of_100"), [(0.07, 7), (0.55, 55), (0.071, 8), (5e-324, 1), (1.0, 100)]
)
def test_a_fraction_is_rounded_up_to_whole_clients(fraction: float, drawn_of_100: int) -> None:
    everybody = tuple(ClientId(UUID(int=number)) for number in range(100))
    assert len(drawn(a_plan(fraction=fraction), everybody, 0, 1)) == drawn_of_100


def test_at_least_the_quorum_is_drawn() -> None:
    assert len(drawn(a_plan(fraction=0.01, min_clients=3), (ANA, BEN, CLEO, DAN), 0, 1)) == 3
