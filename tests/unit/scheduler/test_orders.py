"""What the saga asks of the world: every command is settled, and everybody is told about every end."""

from collections.abc import Sequence
from typing import Any

import pytest

from schemas import commands as c
from schemas.reduction import ReducePlan
from schemas.words import Outcome, TaskKind
from services.scheduler.decide import Input
from services.scheduler.orders import Send
from services.scheduler.saga import step
from services.scheduler.state import from_snapshot, to_snapshot
from tests.builders import (
    ANA,
    BEN,
    CLEO,
    NOON,
    a_plan,
    a_round,
    abort,
    accepted,
    add,
    evaluation_timed_out,
    failed,
    lost,
    measured,
    received,
    reduced,
    refused,
    rejected,
    remove,
    round_timed_out,
    start,
    steps,
    taken_in,
    uploaded,
)
from tests.unit.scheduler.outbox import Outbox

PLAN = a_plan(evaluate_every=1)
A_WHOLE_TRAINING: tuple[Input, ...] = (
    start(ANA, BEN, plan=PLAN),
    *a_round(ANA, BEN),
    measured(ANA),
    measured(BEN),
)


def outbox_after(*messages: Input) -> Outbox:
    outbox = Outbox()
    for taken in steps(None, *messages):
        outbox.apply(taken.orders)
    return outbox


def awaited(outbox: Outbox) -> Sequence[str]:
    return sorted(order.command.type for order in outbox.open.values())


def ends(outbox: Outbox) -> dict[Any, Outcome]:
    return {each.client_id: each.outcome for each in outbox.notices if isinstance(each, c.TrainingEnded)}


def test_each_answer_settles_the_command_it_answers() -> None:
    found = [awaited(outbox_after(*A_WHOLE_TRAINING[:n])) for n in range(1, len(A_WHOLE_TRAINING) + 1)]
    assert found == [
        ["TrainRound", "TrainRound"],
        ["InspectUpdate", "TrainRound"],
        ["TrainRound"],
        ["InspectUpdate"],
        ["ReduceShard", "ReduceShard"],
        ["ReduceShard"],
        ["PublishModel"],
        ["EvaluateModel", "EvaluateModel"],
        ["EvaluateModel"],
        [],
    ]


@pytest.mark.parametrize("length", range(1, len(A_WHOLE_TRAINING)))
def test_an_abort_at_any_moment_voids_every_command_and_tells_everybody(length: int) -> None:
    outbox = outbox_after(*A_WHOLE_TRAINING[:length], abort())
    assert (awaited(outbox), outbox.timer) == ([], None)
    assert ends(outbox) == {ANA: Outcome.ABORTED, BEN: Outcome.ABORTED}


@pytest.mark.parametrize(
    ("messages", "outcome"),
    [
        (A_WHOLE_TRAINING, Outcome.COMPLETED),
        ((start(ANA, BEN), round_timed_out(), round_timed_out(attempt=2)), Outcome.FAILED),
        ((start(ANA, BEN, plan=a_plan(min_clients=3)),), Outcome.FAILED),
    ],
)
def test_everybody_is_told_about_the_end(messages: tuple[Input, ...], outcome: Outcome) -> None:
    outbox = outbox_after(*messages)
    assert ends(outbox) == {ANA: outcome, BEN: outcome}
    assert (awaited(outbox), outbox.timer) == ([], None)


def test_a_client_is_told_each_time_it_leaves() -> None:
    outbox = outbox_after(start(ANA, BEN), remove(BEN), add(BEN), refused(BEN))
    assert [each.type for each in outbox.notices] == ["TrainingEnded", "TrainingEnded"]
    assert ends(outbox) == {BEN: Outcome.REMOVED}
    assert awaited(outbox) == ["TrainRound"]


def test_the_deadline_of_a_round_cancels_the_tasks_that_are_open() -> None:
    outbox = outbox_after(start(ANA, BEN, CLEO), *taken_in(ANA), uploaded(BEN), round_timed_out())
    assert [each.client_id for each in outbox.notices if isinstance(each, c.CancelTask)] == [CLEO]
    assert (awaited(outbox), outbox.timer) == (["InspectUpdate"], None)


def test_the_deadline_of_an_evaluation_cancels_the_tasks_that_are_open() -> None:
    plan = a_plan(rounds=2, evaluate_every=1)
    training = (start(ANA, BEN, plan=plan), *a_round(ANA, BEN), measured(ANA), evaluation_timed_out())
    outbox = outbox_after(*training)
    assert [each.client_id for each in outbox.notices if isinstance(each, c.CancelTask)] == [BEN]
    assert awaited(outbox) == ["TrainRound", "TrainRound"]


def test_who_has_failed_or_left_is_not_told_to_stop() -> None:
    failures = (failed(BEN, kind=TaskKind.EVALUATE, issue=issue) for issue in (1, 2))
    begun = (start(ANA, BEN, CLEO, plan=PLAN), *a_round(ANA, BEN, CLEO))
    outbox = outbox_after(*begun, *failures, refused(CLEO), measured(ANA))
    assert not [each for each in outbox.notices if isinstance(each, c.CancelTask)]


def test_a_lost_update_voids_the_shards_of_its_epoch() -> None:
    outbox = outbox_after(start(ANA, BEN), *taken_in(ANA, BEN), reduced(0), lost(BEN))
    shards = [order.command for order in outbox.open.values()]
    assert [(each.epoch, each.shard) for each in shards if isinstance(each, c.ReduceShard)] == [
        (2, 0),
        (2, 1),
    ]


def test_the_reduce_plan_is_stored_before_its_shards_are_sent_and_names_the_accepted() -> None:
    *_, closing = steps(None, start(ANA, BEN), *taken_in(BEN, ANA))
    outbox = Outbox()
    outbox.apply(closing.orders)
    ((key, body),) = outbox.objects.items()
    assert [update.client_id for update in ReducePlan.model_validate_json(body).updates] == [ANA, BEN]
    kinds = [
        order.command.type if isinstance(order, Send) else type(order).__name__ for order in closing.orders
    ]
    assert kinds == ["Settle", "ClearTimer", "StoreObject", "ReduceShard", "ReduceShard"]
    assert all(o.command.plan == key for o in outbox.open.values() if isinstance(o.command, c.ReduceShard))


def test_a_reissued_task_is_sent_under_its_new_id() -> None:
    outbox = outbox_after(start(ANA), uploaded(ANA), rejected(ANA))
    (asked,) = (order.command for order in outbox.open.values())
    assert isinstance(asked, c.TrainRound)
    assert asked.task_id == uploaded(ANA, issue=2).task_id


def test_a_batch_gives_the_events_and_orders_of_its_messages_one_by_one() -> None:
    batch = tuple(received(message, number) for number, message in enumerate(A_WHOLE_TRAINING))
    whole, single = step(None, batch, NOON), steps(None, *A_WHOLE_TRAINING)
    assert whole.training == single[-1].training
    assert whole.events == tuple(event for each in single for event in each.events)
    assert whole.orders == tuple(order for each in single for order in each.orders)


@pytest.mark.parametrize("length", range(1, len(A_WHOLE_TRAINING) + 1))
def test_a_snapshot_reads_back_as_the_same_training_and_writes_the_same_bytes(length: int) -> None:
    training = steps(None, *A_WHOLE_TRAINING[:length])[-1].training
    assert training is not None
    snapshot = to_snapshot(training)
    assert from_snapshot(snapshot) == training
    assert to_snapshot(from_snapshot(snapshot)) == snapshot


def test_an_update_that_arrives_in_another_order_leads_to_the_same_plan() -> None:
    one = outbox_after(start(ANA, BEN), *taken_in(ANA, BEN)).objects
    other = outbox_after(start(BEN, ANA), uploaded(BEN), uploaded(ANA), accepted(BEN), accepted(ANA)).objects
    assert one == other
