"""What a strategy needs travels with the orders: kinds of updates, extras, state, measures, losses."""

from typing import Any

import pytest

from schemas import commands as c
from schemas import events as e
from schemas.message import Message
from schemas.plan import Plan
from schemas.reduction import ReducePlan
from schemas.reports import UpdateRejected
from schemas.strategies import SCAFFOLD, SWAG, Custom, FedAdam, FedAvg, FedMedian, FedProx, Krum, QFedAvg
from schemas.words import Extra, Slot, UpdateKind
from services.scheduler.decide import Input
from services.scheduler.orders import Send, StoreObject
from services.scheduler.saga import Step
from tests.builders import (
    ANA,
    BEN,
    a_plan,
    a_round,
    a_state,
    a_training,
    accepted,
    aggregation,
    events_of,
    lost,
    play,
    published,
    reduced,
    start,
    steps,
    taken_in,
    types,
    uploaded,
)

ADAM = (Slot.M, Slot.V)


def sent(kind: type[Message], *taken: Step) -> list[Any]:
    orders = (order for each in taken for order in each.orders)
    return [x.command for x in orders if isinstance(x, Send) and isinstance(x.command, kind)]


def reduce_plans(*taken: Step) -> list[ReducePlan]:
    bodies = (x.body for each in taken for x in each.orders if isinstance(x, StoreObject))
    return [ReducePlan.model_validate_json(body) for body in bodies]


def after_start(plan: Plan, *messages: Input) -> tuple[Step, ...]:
    return steps(None, start(ANA, BEN, plan=plan), *messages)


def test_clients_and_inspectors_are_told_what_an_update_is_to_hold() -> None:
    plan = a_plan(update=UpdateKind.DELTA, partial=True, strategy=SCAFFOLD())
    taken = after_start(plan, uploaded(ANA))
    (order, _), (inspection,) = sent(c.TrainRound, *taken), sent(c.InspectUpdate, *taken)
    for command in (order, inspection):
        assert (command.update, command.partial, command.extra) == (UpdateKind.DELTA, True, Extra.CONTROL)


@pytest.mark.parametrize(
    ("more", "is_measured"),
    [
        ({}, False),
        ({"norm_clip": 1.0}, True),
        ({"strategy": QFedAvg()}, True),
        ({"strategy": Krum(f=0)}, False),
    ],
)
def test_distances_are_measured_where_they_are_needed(more: dict[str, Any], is_measured: bool) -> None:
    taken = steps(a_training(ANA, BEN, **{"strategy": FedAvg(), **more}), uploaded(ANA))
    assert [each.measures for each in sent(c.InspectUpdate, *taken)] == [is_measured]


def test_the_config_of_the_strategy_comes_on_top_of_the_plans_own() -> None:
    taken = after_start(a_plan(config={"lr": 0.1, "mu": 9.0}, strategy=FedProx(mu=0.5)))
    assert [each.config for each in sent(c.TrainRound, *taken)] == [{"lr": 0.1, "mu": 0.5}] * 2


def test_a_plan_that_leaves_no_room_for_the_strategys_config_is_refused() -> None:
    full = {f"option{number}": number for number in range(64)}
    assert a_plan(config=full).config == full
    with pytest.raises(ValueError, match="config and what FedProx adds to it have at most 64 names"):
        a_plan(config=full, strategy=FedProx())


def test_a_plan_that_needs_more_updates_than_can_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="Krum would need 1025 updates, and can compare 1024 at most"):
        a_plan(strategy=Krum(f=1_023))
    assert a_plan(strategy=Krum(f=1_022)).quorum == 1_024


def test_what_an_inspection_found_and_what_the_plan_says_is_in_the_reduce_plan() -> None:
    plan = a_plan(
        strategy=FedMedian(),
        update=UpdateKind.DELTA,
        partial=True,
        norm_clip=2.0,
        buffers=("bn.*",),
    )
    messages = (uploaded(ANA, num_examples=7), accepted(ANA, distance=0.5, tensors=(0, 2)))
    (found,) = reduce_plans(*after_start(plan, *messages, *taken_in(BEN)))
    assert (found.update, found.norm_clip, found.buffers) == (UpdateKind.DELTA, 2.0, ("bn.*",))
    assert (found.extra, found.is_chosen, found.state, found.strategy) == (None, False, (), plan.strategy)
    ana, ben = found.updates
    assert (ana.num_examples, ana.norm, ana.distance, ana.tensors, ana.loss) == (7, 1.0, 0.5, (0, 2), None)
    assert (ben.num_examples, ben.distance, ben.tensors) == (10, None, None)


# State


def test_state_is_committed_with_its_version_and_the_next_round_has_exactly_it() -> None:
    training = a_training(ANA, rounds=3, strategy=FedAdam())
    taken = steps(training, *(x for n in range(3) for x in a_round(ANA, round=n, slots=ADAM)))
    assert [plan.state for plan in reduce_plans(*taken)] == [
        (),
        a_state(*ADAM, version=1),
        a_state(*ADAM, version=2),
    ]
    ends = [event for event in events_of(*taken) if isinstance(event, e.RoundAggregated)]
    assert [event.state for event in ends] == [a_state(*ADAM, version=version) for version in (1, 2, 3)]


def test_a_round_that_closes_again_starts_from_the_same_state() -> None:
    training = play(a_training(ANA, BEN, rounds=2, strategy=FedAdam()), *a_round(ANA, BEN, slots=ADAM))[-1]
    taken = steps(training, *taken_in(ANA, BEN, round=1), lost(BEN, round=1, epoch=2))
    assert [(x.epoch, x.state) for x in reduce_plans(*taken)] == [
        (2, a_state(*ADAM)),
        (3, a_state(*ADAM)),
    ]


@pytest.mark.parametrize(
    "message",
    [
        published(),
        published(Slot.M),
        published(Slot.V, Slot.M),
        published(Slot.M, Slot.V, Slot.CONTROL),
        published(*ADAM, round=1, epoch=1),
    ],
)
def test_a_version_whose_state_is_not_what_the_strategy_keeps_does_not_count(message: Any) -> None:
    closing = (*taken_in(ANA), *aggregation(*ADAM)[:-1])
    training = play(a_training(ANA, strategy=FedAdam()), *closing)[-1]
    assert events_of(*steps(training, message)) == ()
    assert events_of(*steps(training, published(*ADAM))) != ()


@pytest.mark.parametrize("parts", [(), (Slot.M,), (Slot.M, Slot.V, Slot.V)])
def test_a_reduced_shard_without_all_its_parts_does_not_count(parts: tuple[Slot, ...]) -> None:
    training = play(a_training(ANA, strategy=FedAdam()), *taken_in(ANA))[-1]
    assert events_of(*steps(training, reduced(0, *parts))) == ()
    assert events_of(*steps(training, reduced(0, *ADAM))) != ()


def test_who_publishes_is_told_the_digests_of_every_part() -> None:
    shards = (reduced(1, *ADAM), reduced(0, *ADAM))
    taken = steps(a_training(ANA, strategy=FedAdam()), *taken_in(ANA), *shards)
    (publish,) = sent(c.PublishModel, *taken)
    assert publish.shards == (reduced(0, *ADAM).digests, reduced(1, *ADAM).digests)


def test_the_global_control_travels_to_the_clients_from_the_second_round_on() -> None:
    control = (Slot.CONTROL,)
    training = a_training(ANA, rounds=2, strategy=SCAFFOLD())
    taken = steps(training, *a_round(ANA, slots=control))
    (second,) = sent(c.TrainRound, *taken)
    assert second.state == a_state(*control)[0]
    (first,) = sent(c.TrainRound, *after_start(a_plan(strategy=SCAFFOLD()))[:1])[:1]
    assert first.state is None


def test_moments_of_an_optimiser_stay_on_the_server() -> None:
    training = a_training(ANA, rounds=2, strategy=FedAdam())
    (second,) = sent(c.TrainRound, *steps(training, *a_round(ANA, slots=ADAM)))
    assert second.state is None


def test_swag_has_second_moments_in_its_last_rounds_only() -> None:
    training = a_training(ANA, rounds=3, strategy=SWAG(rounds=2, samples=5))
    moments = (Slot.SECOND_MOMENT,)
    taken = steps(
        training,
        *a_round(ANA),
        *a_round(ANA, round=1, slots=moments),
        *a_round(ANA, round=2, slots=moments),
    )
    assert [plan.extra for plan in reduce_plans(*taken)] == [None, *[Extra.SECOND_MOMENT] * 2]
    assert [x.config for x in sent(c.TrainRound, *taken)] == [{"swag_samples": 5}] * 2
    ends = [event.state for event in events_of(*taken) if isinstance(event, e.RoundAggregated)]
    assert ends == [(), a_state(*moments, version=2), a_state(*moments, version=3)]
    assert events_of(*steps(training, *taken_in(ANA), reduced(0, *moments)))[-1].type == "RoundClosed"


def test_a_rule_of_the_operators_own_keeps_no_state() -> None:
    taken = steps(a_training(ANA, strategy=Custom(rule="mine")), *a_round(ANA))
    assert types(events_of(*taken))[-1] == "TrainingCompleted"


# Losses


@pytest.mark.parametrize("metrics", [{}, {"accuracy": 1.0}, {"loss": -0.1}])
def test_without_a_loss_an_update_is_refused_when_it_is_reported_and_asked_for_again(
    metrics: dict[str, float],
) -> None:
    training = a_training(ANA, BEN, strategy=QFedAvg(), task_attempts=2)
    first, second = steps(training, uploaded(ANA, metrics=metrics), uploaded(ANA, metrics=metrics, issue=2))
    assert types(events_of(first)) == ["ModelUploaded", "UpdateRejected", "TaskReissued"]
    assert types(events_of(second)) == ["ModelUploaded", "UpdateRejected"]
    refusal = events_of(first)[1]
    assert isinstance(refusal, UpdateRejected)
    assert refusal.code == "no_loss"
    assert refusal.reason == "QFedAvg needs the metric 'loss', a number of 0 or more"


def test_the_last_update_without_a_loss_closes_the_round_without_it() -> None:
    training = a_training(ANA, BEN, strategy=QFedAvg(), task_attempts=1)
    taken = steps(training, *taken_in(BEN, metrics={"loss": 0.0}), uploaded(ANA))
    assert types(events_of(taken[-1])) == ["ModelUploaded", "UpdateRejected", "RoundClosed"]


def test_the_loss_is_the_metric_that_the_plan_names() -> None:
    training = a_training(ANA, BEN, strategy=QFedAvg(loss_metric="nll"))
    losses = {"nll": 0.0, "loss": -5.0}, {"nll": 2.5}
    messages = (*taken_in(ANA, metrics=losses[0]), *taken_in(BEN, metrics=losses[1]))
    (found,) = reduce_plans(*steps(training, *messages))
    assert [update.loss for update in found.updates] == [0.0, 2.5]


def test_other_strategies_ask_for_no_loss_and_plan_with_none() -> None:
    messages = (*taken_in(ANA, metrics={"loss": -1.0}), *taken_in(BEN))
    (found,) = reduce_plans(*steps(a_training(ANA, BEN), *messages))
    assert [update.loss for update in found.updates] == [None, None]


# Metrics of the training


def test_a_round_ends_with_the_means_of_what_its_clients_said_counted_by_examples() -> None:
    messages = (
        *taken_in(ANA, metrics={"loss": 4.0}, num_examples=1),
        *taken_in(BEN, metrics={"loss": 0.0, "auc": 0.5}, num_examples=3),
    )
    taken = steps(a_training(ANA, BEN), *messages, *aggregation())
    (ended,) = (event for event in events_of(*taken) if isinstance(event, e.RoundAggregated))
    assert ended.metrics == {"loss": 1.0, "auc": 0.5}


def test_a_lost_update_does_not_count_in_the_rounds_metrics() -> None:
    messages = (*taken_in(ANA, metrics={"loss": 4.0}), *taken_in(BEN, metrics={"loss": 0.0}), lost(BEN))
    taken = steps(a_training(ANA, BEN), *messages, *aggregation(epoch=2))
    (ended,) = (event for event in events_of(*taken) if isinstance(event, e.RoundAggregated))
    assert ended.metrics == {"loss": 4.0}
