"""Strategies that choose: measure, choose, reduce what was chosen."""

from typing import Any
from uuid import UUID

import pytest

from schemas import commands as c
from schemas import events as e
from schemas import keys
from schemas.ids import ClientId
from schemas.reduction import ReducePlan
from schemas.strategies import Bulyan, FedMedian, Krum, MultiKrum
from schemas.words import TrainingState
from services.scheduler.decide import Input
from services.scheduler.phases import drawn
from services.scheduler.state import Training
from tests.builders import (
    ANA,
    BEN,
    CLEO,
    DAN,
    TRAINING,
    a_model,
    a_plan,
    a_training,
    aggregation,
    choice,
    chosen,
    events_of,
    lost,
    measured_shard,
    not_combined,
    play,
    published,
    reduced,
    start,
    steps,
    taken_in,
    types,
)
from tests.unit.scheduler.outbox import Outbox

ALL = (ANA, BEN, CLEO)
KRUM: dict[str, Any] = {"strategy": Krum(f=0), "min_clients": 1}


def closed(**plan: Any) -> Training:
    return play(a_training(*ALL, **{**KRUM, **plan}), *taken_in(*ALL))[-1]


def outbox_of(*messages: Input, size: int = 8 + 16) -> Outbox:
    outbox, first = Outbox(), start(*ALL, plan=a_plan(**KRUM), model=a_model(size=size))
    for taken in steps(None, first, *taken_in(*ALL), *messages):
        outbox.apply(taken.orders)
    return outbox


def asked(outbox: Outbox) -> list[Any]:
    return [order.command for order in outbox.open.values()]


def plan_at(outbox: Outbox, key: str) -> ReducePlan:
    return ReducePlan.model_validate_json(outbox.objects[key])


def test_shards_are_measured_then_updates_chosen_then_the_chosen_reduced_and_published() -> None:
    found = [
        types(tuple(asked(outbox_of(*(*choice(BEN), *aggregation())[:n])))) for n in range(1 + 2 + 1 + 2)
    ]
    assert found == [
        ["MeasureShard", "MeasureShard"],
        ["MeasureShard"],
        ["ChooseUpdates"],
        ["ReduceShard", "ReduceShard"],
        ["ReduceShard"],
        ["PublishModel"],
    ]


def test_a_single_shard_is_measured_by_who_chooses_and_reduced_by_who_publishes() -> None:
    (choose,) = asked(outbox_of(size=16))
    assert isinstance(choose, c.ChooseUpdates)
    assert choose.shards == ()
    (publish,) = asked(outbox_of(chosen(BEN), size=16))
    assert isinstance(publish, c.PublishModel)
    assert publish.shards == ()


def test_nobody_is_asked_to_measure_or_reduce_a_single_shard_and_such_reports_do_not_count() -> None:
    training = play(None, start(*ALL, plan=a_plan(**KRUM), model=a_model(size=16)), *taken_in(*ALL))[-1]
    assert events_of(*steps(training, measured_shard(0), reduced(0))) == ()
    (_, taken) = steps(training, chosen(ANA), reduced(0))
    assert events_of(taken) == ()


def test_who_chooses_is_told_the_digests_of_what_was_measured() -> None:
    (choose,) = asked(outbox_of(measured_shard(1), measured_shard(0)))
    assert choose.shards == (measured_shard(0).digest, measured_shard(1).digest)
    assert choose.plan == keys.reduce_plan(TRAINING, 0, 1)


def test_what_is_reduced_is_a_plan_of_the_chosen_updates_alone() -> None:
    outbox = outbox_of(*choice(ANA, CLEO))
    key = keys.chosen_plan(TRAINING, 0, 1)
    assert {command.plan for command in asked(outbox)} == {key}
    whole, kept = plan_at(outbox, keys.reduce_plan(TRAINING, 0, 1)), plan_at(outbox, key)
    assert [update.client_id for update in whole.updates] == [*ALL]
    assert [update.client_id for update in kept.updates] == [ANA, CLEO]
    assert (whole.is_chosen, kept.is_chosen) == (False, True)
    assert kept.model_copy(update={"updates": whole.updates, "is_chosen": False}) == whole


def test_the_choice_is_recorded_and_every_accepted_client_counts_in_the_rounds_metrics() -> None:
    uploads = (
        taken_in(client, metrics={"loss": loss}) for client, loss in zip(ALL, (1.0, 2.0, 6.0), strict=True)
    )
    training = play(a_training(*ALL, **KRUM), *(each for upload in uploads for each in upload))[-1]
    taken = steps(training, *choice(BEN), *aggregation())
    assert types(events_of(*taken)) == [
        *("ShardMeasured", "ShardMeasured", "UpdatesChosen", "ShardReduced", "ShardReduced"),
        *("RoundAggregated", "TrainingCompleted"),
    ]
    (ended,) = (each for each in events_of(*taken) if isinstance(each, e.RoundAggregated))
    assert ended.metrics == {"loss": 3.0}


@pytest.mark.parametrize(
    "message",
    [
        chosen(ANA),
        reduced(0),
        published(),
        measured_shard(0),
        measured_shard(2),
        measured_shard(1, epoch=2),
        measured_shard(1, round=1),
    ],
    ids=lambda message: message.type,
)
def test_while_shards_are_measured_nothing_else_counts(message: Any) -> None:
    training = play(closed(), measured_shard(0))[-1]
    assert events_of(*steps(training, message)) == ()


@pytest.mark.parametrize(
    "message",
    [
        measured_shard(0),
        reduced(0),
        published(),
        chosen(DAN),
        chosen(ANA, DAN),
        chosen(ANA, ANA),
        chosen(ANA, BEN).model_copy(update={"clients": (BEN, ANA)}),
        chosen(ANA, epoch=2),
        chosen(ANA, round=1),
    ],
    ids=lambda message: message.type,
)
def test_while_updates_are_chosen_only_a_choice_among_the_accepted_counts(message: Any) -> None:
    training = play(closed(), measured_shard(0), measured_shard(1))[-1]
    assert events_of(*steps(training, message)) == ()


@pytest.mark.parametrize("message", [chosen(ANA), chosen(BEN), measured_shard(0), published(), lost(CLEO)])
def test_once_they_are_chosen_another_choice_and_what_was_not_chosen_do_not_count(message: Any) -> None:
    training = play(closed(), *choice(ANA, BEN), reduced(0))[-1]
    assert events_of(*steps(training, message)) == ()


def test_a_strategy_that_does_not_choose_takes_no_measures_and_no_choice() -> None:
    training = closed(strategy=FedMedian())
    assert events_of(*steps(training, measured_shard(0), chosen(ANA))) == ()


@pytest.mark.parametrize("progress", range(5))
def test_a_lost_update_at_any_step_closes_the_round_again_and_all_is_measured_anew(progress: int) -> None:
    before = (*choice(ANA, BEN), reduced(0), reduced(1))[:progress]
    outbox = outbox_of(*before, lost(BEN))
    assert [(x.type, x.epoch, x.shard) for x in asked(outbox)] == [
        ("MeasureShard", 2, 0),
        ("MeasureShard", 2, 1),
    ]
    again = plan_at(outbox, keys.reduce_plan(TRAINING, 0, 2))
    assert ([update.client_id for update in again.updates], again.is_chosen) == ([ANA, CLEO], False)


def test_after_another_close_the_old_choice_is_forgotten() -> None:
    training = play(closed(), *choice(ANA, BEN), lost(BEN))[-1]
    assert events_of(*steps(training, chosen(ANA, epoch=1), reduced(0, epoch=2))) == ()
    taken = steps(training, *choice(CLEO, epoch=2), *aggregation(epoch=2))
    assert types(events_of(taken[-1])) == ["RoundAggregated", "TrainingCompleted"]


def test_a_loss_that_leaves_too_few_for_the_rule_ends_the_attempt() -> None:
    training = closed(strategy=MultiKrum(f=1, k=2))
    (taken,) = steps(training, lost(BEN))
    assert types(events_of(taken)) == ["UpdateLost", "RoundAbandoned", "RoundStarted"]
    (abandoned,) = (each for each in events_of(taken) if isinstance(each, e.RoundAbandoned))
    assert "2 of at least 3 updates" in abandoned.reason


@pytest.mark.parametrize(
    ("strategy", "sentence"),
    [
        (Bulyan(f=1), "Bulyan with f=1 needs at least 7 updates, and for round 0 3 participants are left"),
        (Krum(f=2), "Krum with f=2 needs at least 4 updates, and for round 0 3 participants are left"),
        (
            MultiKrum(f=0, k=5),
            "MultiKrum with f=0, k=5 needs at least 5 updates, and for round 0 3 participants are left",
        ),
    ],
)
def test_a_training_with_too_few_for_its_rule_fails_at_once_and_names_the_rule(
    strategy: Any, sentence: str
) -> None:
    training = a_training(*ALL, strategy=strategy)
    assert (training.state, training.reason) == (TrainingState.FAILED, sentence)


def test_a_rule_that_needs_more_than_the_policy_closes_with_no_less() -> None:
    training = a_training(*ALL, strategy=MultiKrum(f=1, k=2), min_clients=1)
    assert "RoundClosed" not in types(events_of(*steps(training, *taken_in(ANA, BEN))))
    assert "RoundClosed" in types(events_of(*steps(training, *taken_in(*ALL))))


def test_so_many_are_drawn_that_the_rule_can_hold_and_no_more_than_can_be_compared() -> None:
    everybody = tuple(ClientId(UUID(int=number)) for number in range(1_100))
    few = a_plan(fraction=0.001, strategy=Bulyan(f=2))
    assert len(drawn(few, everybody, 0, 1)) == 11
    assert len(drawn(a_plan(strategy=Krum()), everybody, 0, 1)) == 1_024
    assert len(drawn(a_plan(), everybody, 0, 1)) == 1_100


@pytest.mark.parametrize("progress", range(6))
def test_updates_that_cannot_be_combined_end_the_attempt_at_any_step_and_void_its_commands(
    progress: int,
) -> None:
    before = (*choice(ANA, BEN), *aggregation())[:progress]
    outbox = outbox_of(*before, not_combined())
    assert types(tuple(asked(outbox))) == ["TrainRound"] * 3
    assert {(command.round, command.attempt) for command in asked(outbox)} == {(0, 2)}


@pytest.mark.parametrize("message", [not_combined(epoch=2), not_combined(round=1)])
def test_a_refusal_of_another_round_or_close_decides_nothing(message: Any) -> None:
    assert events_of(*steps(closed(), message)) == ()
    assert events_of(*steps(a_training(ANA), message)) == ()


def test_updates_that_cannot_be_combined_too_often_fail_the_training_with_the_reason() -> None:
    (taken,) = steps(closed(round_attempts=1), not_combined(reason="x" * 4_000))
    assert types(events_of(taken)) == ["RoundRefused", "RoundAbandoned", "TrainingFailed"]
    assert taken.training is not None
    assert (taken.training.reason or "").startswith("round 0, attempt 1 of 1: xxx")
