"""Deadlines, aborts and repeats on real servers; the deadlines are short."""

import pytest
from sqlalchemy import func, select

from infra.database.tables import outbox, timers, trainings
from schemas.commands import AbortTraining, CancelTask, ClientCommand, EvaluateModel, TrainRound
from schemas.events import EvaluationEnded, IntakeClosed, RoundAbandoned
from schemas.ids import TrainingId
from tests.integration.scheduler.small import LAYOUT, a_training
from tests.scene import Scene, until
from tests.sites import Behaviour, Sites, attending, honest, silent, told_the_end

pytestmark = pytest.mark.integration

DEADLINE_S = 0.8


def only_the_first(count: int) -> Behaviour:
    """The others hear their orders and never answer."""

    async def behave(sites: Sites, command: ClientCommand) -> None:
        if sites.number(command.client_id) < count:
            await honest(sites, command)

    return behave


async def test_at_the_deadline_a_round_with_a_quorum_goes_on_without_the_missing(scene: Scene) -> None:
    start = await a_training(scene, deadline_s=DEADLINE_S, min_clients=2)
    async with attending(scene, LAYOUT, only_the_first(3)) as sites, scene.running():
        await scene.order(start)
        assert await scene.ended(start.training_id) == "completed"
        cancelled = await sites.told(CancelTask, start.training_id, 2)
    late = scene.place.clients[3:]
    (closed,) = [e.data for e in await scene.events(start.training_id) if isinstance(e.data, IntakeClosed)]
    assert closed.missing == late
    assert sorted(notice.client_id for notice in cancelled) == list(late)


async def test_below_quorum_a_round_is_tried_again_and_then_fails_naming_the_missing(scene: Scene) -> None:
    start = await a_training(scene, deadline_s=DEADLINE_S, min_clients=3, round_attempts=2)
    async with attending(scene, LAYOUT, only_the_first(2)), scene.running():
        await scene.order(start)
        assert await scene.ended(start.training_id) == "failed"
        await nothing_is_open(scene, start.training_id)
    late = scene.place.clients[2:]
    abandoned = [e.data for e in await scene.events(start.training_id) if isinstance(e.data, RoundAbandoned)]
    assert [(each.attempt, each.missing) for each in abandoned] == [(1, late), (2, late)]
    (row,) = await scene.rows(select(trainings.c.reason))
    assert "2 of at least 3 updates" in row.reason
    assert all(str(client) in row.reason for client in late)


async def test_an_evaluation_ends_at_its_deadline_with_what_is_there(scene: Scene) -> None:
    async def some_measure(sites: Sites, command: ClientCommand) -> None:
        if not isinstance(command, EvaluateModel) or sites.number(command.client_id) == 0:
            await honest(sites, command)

    start = await a_training(scene, deadline_s=1.5, evaluate_every=1)
    async with attending(scene, LAYOUT, some_measure), scene.running():
        await scene.order(start)
        assert await scene.ended(start.training_id) == "completed"
    (ended,) = [e.data for e in await scene.events(start.training_id) if isinstance(e.data, EvaluationEnded)]
    assert (ended.metrics, ended.num_examples) == ({"accuracy": 0.5}, 4)
    assert ended.missing == scene.place.clients[1:]


async def test_a_deadline_that_passed_while_the_scheduler_was_down_counts_at_once(scene: Scene) -> None:
    start = await a_training(scene, deadline_s=1, round_attempts=1)
    async with attending(scene, LAYOUT, silent) as sites:
        async with scene.running(aggregators=0):
            await scene.order(start)
            await sites.told(TrainRound, start.training_id, len(scene.place.clients))
        await until(lambda: _is_due(scene))
        async with scene.running(aggregators=0):
            assert await scene.ended(start.training_id, within_s=3) == "failed"


async def _is_due(scene: Scene) -> bool:
    return bool(await scene.rows(select(timers).where(timers.c.due_at < func.clock_timestamp())))


async def test_an_abort_ends_it_and_tells_everybody(scene: Scene) -> None:
    start = await a_training(scene)
    async with attending(scene, LAYOUT, silent) as sites, scene.running(aggregators=0):
        await scene.order(start)
        await sites.told(TrainRound, start.training_id, len(scene.place.clients))
        await scene.order(AbortTraining(training_id=start.training_id, reason="wrong data"))
        assert await scene.ended(start.training_id) == "aborted"
        told = await told_the_end(sites, start.training_id)
        await nothing_is_open(scene, start.training_id)
    assert {(notice.outcome, notice.reason, notice.model) for notice in told} == {
        ("aborted", "wrong data", None)
    }


async def test_what_is_said_again_and_again_is_recorded_once(scene: Scene) -> None:
    async def stutter(sites: Sites, command: ClientCommand) -> None:
        for _ in range(3):
            await honest(sites, command)

    start = await a_training(scene, rounds=2, evaluate_every=1)
    async with attending(scene, LAYOUT, stutter), scene.running(aggregators=2):
        await scene.order(start)
        assert await scene.ended(start.training_id) == "completed"
        await nothing_is_open(scene, start.training_id)
    types = await scene.types(start.training_id)
    expected = 2 * len(scene.place.clients)
    for kind in ("ModelUploaded", "UpdateAccepted", "MetricsReported"):
        assert types.count(kind) == expected
    assert types.count("RoundAggregated") == 2


async def nothing_is_open(scene: Scene, training: TrainingId) -> None:
    """I10, I12."""
    await scene.published(training)
    assert await scene.rows(select(outbox.c.id).where(outbox.c.training_id == training)) == []
    assert await scene.rows(select(timers)) == []


async def test_two_schedulers_at_the_same_time_come_to_one_result(scene: Scene) -> None:
    start = await a_training(scene, rounds=3, evaluate_every=1)
    async with attending(scene, LAYOUT), scene.running(aggregators=2), scene.running(aggregators=0):
        await scene.order(start)
        assert await scene.ended(start.training_id) == "completed"
        await nothing_is_open(scene, start.training_id)
    envelopes = await scene.events(start.training_id)
    assert [envelope.sequence for envelope in envelopes] == list(range(1, len(envelopes) + 1))
    assert [envelope.type for envelope in envelopes].count("RoundAggregated") == 3
