"""Whatever is killed, and whenever: the training ends, unattended, with the same bits."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import select

from infra.database.tables import timers, trainings
from infra.stack.record import Endpoints
from infra.weights.layout import Dtype, Tensor, canonical
from schemas.commands import ClientCommand, StartTraining, TrainRound
from schemas.events import RoundAggregated
from schemas.plan import Evaluation
from services.scheduler.evolve import fold
from services.scheduler.state import to_snapshot
from tests.e2e.processes import Service, started
from tests.place import Place, a_place
from tests.recompute import mean_file, sha256_of, trained
from tests.scene import Scene, a_scene
from tests.sites import Sites, attending, honest

pytestmark = pytest.mark.e2e

LAYOUT = canonical([Tensor("w", Dtype.F32, (3_000,)), Tensor("h", Dtype.BF16, (999,))])
MODEL = trained(LAYOUT, LAYOUT.header + bytes(LAYOUT.data_size), [1])
CLIENTS = 4
STEPS = (
    "RoundStarted",
    "ModelUploaded",
    "UpdateAccepted",
    "ShardReduced",
    "RoundAggregated",
    "MetricsReported",
)


@pytest.fixture(scope="module")
def place(stack: Endpoints) -> Iterator[Place]:
    with a_place(stack, CLIENTS) as found:
        yield found


@pytest.fixture
async def scene(place: Place) -> AsyncIterator[Scene]:
    async with a_scene(place) as found:
        yield found


@dataclass(frozen=True)
class Cast:
    scheduler: Service
    aggregators: tuple[Service, ...]

    @property
    def everybody(self) -> tuple[Service, ...]:
        return (self.scheduler, *self.aggregators)


@pytest.fixture
def cast(place: Place, tmp_path: Path) -> Cast:
    scheduler = Service("scheduler", place.scheduler(log_level="DEBUG"), tmp_path / "scheduler.log")
    aggregators = (
        Service("aggregator", place.aggregator(log_level="DEBUG"), tmp_path / f"aggregator-{number}.log")
        for number in range(2)
    )
    return Cast(scheduler, tuple(aggregators))


async def unhurried(sites: Sites, command: ClientCommand) -> None:
    """So that there is time to be killed in every phase."""
    await asyncio.sleep(0.02 * (1 + sites.number(command.client_id)))
    await honest(sites, command)


async def a_training(scene: Scene, rounds: int) -> StartTraining:
    return await scene.training(
        MODEL, LAYOUT.header_size, rounds=rounds, evaluation=Evaluation(every=1), shard_bytes=1 << 10
    )


def expected(rounds: int) -> str:
    """What the training gives when nobody disturbs it."""
    model = MODEL
    for number in range(rounds):
        updates = [(10 + client, trained(LAYOUT, model, [client, number])) for client in range(CLIENTS)]
        model = mean_file(LAYOUT, updates)
    return sha256_of(model)


async def well_ended(scene: Scene, start: StartTraining) -> None:
    """Same bits; I1, I2, I10, I12; and nobody was refused."""
    training, rounds = start.training_id, start.plan.rounds
    assert await scene.ended(training, within_s=60) == "completed"
    await scene.published(training)
    envelopes = await scene.events(training)
    said = [envelope.data for envelope in envelopes]
    assert [envelope.sequence for envelope in envelopes] == list(range(1, len(said) + 1))
    models = [event.model for event in said if isinstance(event, RoundAggregated)]
    assert len(models) == rounds
    assert models[-1].sha256 == expected(rounds)
    folded = fold(None, said)
    assert folded is not None
    (row,) = await scene.rows(select(trainings.c.snapshot))
    assert to_snapshot(folded) == row.snapshot
    assert await scene.rows(select(timers)) == []
    assert await scene.depth("dead-letters") == 0


async def step_of(scene: Scene, start: StartTraining, number: int, step: str) -> None:
    """Wait for that event in that round."""

    async def happened() -> bool:
        types = await scene.types(start.training_id)
        return types.count("RoundStarted") > number and step in _round(types, number)

    async with asyncio.timeout(30):
        while not await happened():  # noqa: ASYNC110 -- in other processes
            await asyncio.sleep(0.002)


def _round(types: list[str], number: int) -> list[str]:
    starts = [index for index, name in enumerate(types) if name == "RoundStarted"]
    ends = [*starts[1:], len(types)]
    return types[starts[number] : ends[number]]


async def test_a_scheduler_killed_in_every_phase_goes_on_where_it_was(scene: Scene, cast: Cast) -> None:
    start = await a_training(scene, rounds=len(STEPS))
    async with attending(scene, LAYOUT, unhurried):
        with started(*cast.everybody):
            await scene.order(start)
            for number, step in enumerate(STEPS):
                await step_of(scene, start, number, step)
                cast.scheduler.kill()
                cast.scheduler.start()
            await well_ended(scene, start)


async def test_an_aggregator_killed_in_every_phase_costs_one_command(scene: Scene, cast: Cast) -> None:
    start = await a_training(scene, rounds=len(STEPS))
    async with attending(scene, LAYOUT, unhurried):
        with started(*cast.everybody):
            await scene.order(start)
            for number, step in enumerate(STEPS):
                await step_of(scene, start, number, step)
                victim = cast.aggregators[number % 2]
                victim.kill()
                victim.start()
            await well_ended(scene, start)


@pytest.mark.parametrize("seed", [1])
async def test_all_services_killed_at_once_at_any_moment_start_again_and_finish(
    scene: Scene, cast: Cast, seed: int
) -> None:
    random = Random(seed)
    start = await a_training(scene, rounds=6)
    async with attending(scene, LAYOUT, unhurried):
        with started(*cast.everybody):
            await scene.order(start)
            for number in range(4):
                await step_of(scene, start, number, "RoundStarted")
                await asyncio.sleep(random.random() / 3)
                for service in cast.everybody:
                    service.kill()
                for service in cast.everybody:
                    service.start()
            await well_ended(scene, start)


async def test_a_killed_scheduler_misses_nothing_that_was_said_while_it_was_away(
    scene: Scene, cast: Cast
) -> None:
    start = await a_training(scene, rounds=2)
    async with attending(scene, LAYOUT, unhurried) as sites:
        with started(*cast.everybody):
            await scene.order(start)
            await sites.told(TrainRound, start.training_id, CLIENTS)
            cast.scheduler.kill()
            await asyncio.sleep(0.5)
            cast.scheduler.start()
            await well_ended(scene, start)


async def test_services_that_are_asked_to_stop_do_so_soon_and_give_no_secret_away(
    scene: Scene, cast: Cast
) -> None:
    start = await a_training(scene, rounds=2)
    async with attending(scene, LAYOUT, unhurried):
        with started(*cast.everybody):
            await scene.order(start)
            await scene.happened(start.training_id, "ModelUploaded")
            assert [service.stop() for service in cast.everybody] == [0, 0, 0]
            for service in cast.everybody:
                service.start()
            await well_ended(scene, start)
    logs = [service.log.read_text() for service in cast.everybody]
    assert all("training" in log for log in logs)
    assert not any("X-Amz-Signature" in log or "-secret" in log for log in logs)
