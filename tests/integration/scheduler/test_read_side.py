"""What REST answers from, after the saga has moved on real servers."""

import pytest
from sqlalchemy import func, select

from infra.broker.connection import Connection
from infra.broker.event_log import read_events
from infra.database.tables import (
    metrics,
    model_versions,
    models,
    participants,
    rounds,
    timers,
    trainings,
)
from schemas.commands import AbortTraining, ClientCommand, TrainRound
from schemas.envelope import decode
from schemas.events import Event, RoundAggregated
from schemas.ids import TrainingId
from schemas.reports import ClientRejected
from services.scheduler.evolve import fold
from services.scheduler.state import from_snapshot, to_snapshot
from tests.integration.scheduler.small import LAYOUT, a_training
from tests.scene import Scene
from tests.sites import Sites, attending, honest, silent, told_the_end

pytestmark = pytest.mark.integration


async def one_is_unwilling(sites: Sites, command: ClientCommand) -> None:
    if isinstance(command, TrainRound) and sites.number(command.client_id) == 0:
        no = ClientRejected(
            training_id=command.training_id, client_id=command.client_id, reason="not with our data"
        )
        return await sites.tell(no)
    return await honest(sites, command)


async def test_a_training_is_told_by_its_rows(scene: Scene) -> None:
    start = await a_training(scene, rounds=2, evaluate_every=1)
    async with attending(scene, LAYOUT, one_is_unwilling), scene.running():
        await scene.order(start)
        assert await scene.ended(start.training_id) == "completed"
    stayed = len(scene.place.clients) - 1
    (training,) = await scene.rows(select(trainings))
    assert (training.state, training.reason, training.round, training.phase) == ("completed", None, 1, None)
    assert training.seq == len(await scene.bodies(start.training_id))
    found = await scene.rows(select(rounds).order_by(rounds.c.round))
    assert [(r.round, r.attempt, r.state, r.accepted, r.metrics) for r in found] == [
        (0, 1, "aggregated", stayed, {"accuracy": 0.5}),
        (1, 1, "aggregated", stayed, {"accuracy": 0.5}),
    ]
    assert [r.expected for r in found] == [stayed + 1, stayed]
    assert all(r.ended_at > r.started_at for r in found)


async def test_the_round_of_an_aborted_training_has_ended_without_a_model(scene: Scene) -> None:
    start = await a_training(scene)
    async with attending(scene, LAYOUT, silent) as sites, scene.running():
        await scene.order(start)
        await sites.told(TrainRound, start.training_id, len(scene.place.clients))
        await scene.order(AbortTraining(training_id=start.training_id, reason="enough"))
        await scene.ended(start.training_id)
    (found,) = await scene.rows(select(rounds))
    assert (found.state, found.sha256) == ("abandoned", None)
    assert found.ended_at > found.started_at


async def test_every_version_of_the_model_is_listed_and_its_newest_is_named(scene: Scene) -> None:
    start = await a_training(scene, rounds=2)
    async with attending(scene, LAYOUT), scene.running():
        await scene.order(start)
        await scene.ended(start.training_id)
    said = [envelope.data for envelope in await scene.events(start.training_id)]
    published = [event.model for event in said if isinstance(event, RoundAggregated)]
    versions = await scene.rows(select(model_versions).order_by(model_versions.c.version))
    assert [(v.version, v.sha256, v.key, v.training_id) for v in versions[1:]] == [
        (model.version, model.sha256, model.key, start.training_id) for model in published
    ]
    assert (await scene.rows(select(models.c.version)))[0].version == 2
    told = await scene.rows(select(rounds.c.sha256).order_by(rounds.c.round))
    assert [row.sha256 for row in told] == [model.sha256 for model in published]


async def test_metrics_of_training_and_of_evaluation_are_kept_per_client_and_version(scene: Scene) -> None:
    start = await a_training(scene, rounds=2, evaluate_every=2)
    async with attending(scene, LAYOUT), scene.running():
        await scene.order(start)
        await scene.ended(start.training_id)
    grouped = select(
        metrics.c.identifier, metrics.c.key, metrics.c.step, func.count(metrics.c.reporter_id.distinct())
    ).group_by(metrics.c.identifier, metrics.c.key, metrics.c.step)
    sites = len(scene.place.clients)
    assert {tuple(row) for row in await scene.rows(grouped)} == {
        ("train", "loss", 1, sites),
        ("train", "loss", 2, sites),
        ("test", "accuracy", 2, sites),
    }


async def test_who_has_left_is_marked_with_the_reason(scene: Scene) -> None:
    start = await a_training(scene)
    async with attending(scene, LAYOUT, one_is_unwilling), scene.running():
        await scene.order(start)
        await scene.ended(start.training_id)
    left = select(participants.c.client_id, participants.c.removed_reason).where(
        participants.c.removed_at.is_not(None)
    )
    assert [tuple(row) for row in await scene.rows(left)] == [(scene.place.clients[0], "not with our data")]


async def test_the_stream_has_the_very_bytes_of_the_table(scene: Scene) -> None:
    """I1: dense, each once in the table; in the stream at least once, and nothing else."""
    start = await a_training(scene, rounds=2, evaluate_every=1)
    async with attending(scene, LAYOUT), scene.running():
        await scene.order(start)
        await scene.ended(start.training_id)
        await scene.published(start.training_id)
    kept = await scene.bodies(start.training_id)
    envelopes = [decode(body, Event) for body in kept]
    assert [each.sequence for each in envelopes] == list(range(1, len(kept) + 1))
    streamed = await in_the_stream(scene, start.training_id)
    assert sorted(set(streamed), key=streamed.index) == kept


async def test_the_fold_of_the_events_is_the_snapshot_byte_for_byte(scene: Scene) -> None:
    """I2."""
    start = await a_training(scene, rounds=2, evaluate_every=1)
    async with attending(scene, LAYOUT), scene.running():
        await scene.order(start)
        await scene.ended(start.training_id)
    events = [envelope.data for envelope in await scene.events(start.training_id)]
    (row,) = await scene.rows(select(trainings.c.snapshot, trainings.c.snapshot_seq))
    assert row.snapshot_seq == len(events)
    folded = fold(None, events)
    assert folded is not None
    assert to_snapshot(folded) == row.snapshot == to_snapshot(from_snapshot(row.snapshot))


async def test_at_the_end_every_participant_is_told_and_nothing_is_open(scene: Scene) -> None:
    start = await a_training(scene)
    async with attending(scene, LAYOUT) as sites, scene.running():
        await scene.order(start)
        told = await told_the_end(sites, start.training_id)
        await scene.published(start.training_id)
    assert sorted(notice.client_id for notice in told) == list(scene.place.clients)
    (last,) = [e.data for e in await scene.events(start.training_id) if isinstance(e.data, RoundAggregated)]
    assert {(notice.outcome, notice.model) for notice in told} == {("completed", last.model)}
    assert await scene.rows(select(timers)) == []


async def in_the_stream(scene: Scene, training: TrainingId) -> list[bytes]:
    rabbit = scene.place.endpoints.rabbit
    async with Connection(scene.place.login(rabbit.user, rabbit.password), "test reader") as line:
        found = [body async for _, body in read_events(line, idle_s=0.5)]
    return [body for body in found if str(training).encode() in body]
