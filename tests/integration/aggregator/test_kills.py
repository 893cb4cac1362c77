"""A worker may be killed at any moment of any command: another one ends the training with the same bits."""

import asyncio
import signal
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr

from infra.objects.memory import MemoryObjects
from infra.objects.store import fetch
from infra.weights.layout import Dtype, Tensor, canonical
from schemas import keys
from schemas.commands import ClientCommand, TrainRound
from schemas.events import Event, RoundAggregated
from schemas.ids import ClientId
from schemas.plan import Evaluation, Participation
from schemas.strategies import FedAdam, FedAvg, MultiKrum, Strategy
from schemas.weights import ModelRef, StateRef
from services.aggregator import app as aggregator
from services.aggregator.settings import Settings
from services.aggregator.work import Worker
from tests.builders import MODEL as MODEL_ID
from tests.builders import TRAINING
from tests.integration.aggregator import dying
from tests.integration.aggregator.dying import Moment, Point
from tests.played import played
from tests.recompute import sha256_of, trained
from tests.scene import Scene, served, until
from tests.sites import Sites, attending, granted

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[3]
LAYOUT = canonical([Tensor("w", Dtype.F32, (3_000,)), Tensor("h", Dtype.BF16, (999,))])
MODEL = trained(LAYOUT, LAYOUT.header + bytes(LAYOUT.data_size), [1])
ROUNDS = 2
SHARDS = 4

ON_AN_UPDATE = [
    Point(Moment.READING, "updates/", 3),
    Point(Moment.BEFORE, "UpdateAccepted", 2),
    Point(Moment.AFTER, "UpdateAccepted", 2),
]
ON_A_SHARD = [
    Point(Moment.READING_A_RANGE, "updates/", 3),
    Point(Moment.PUTTING, "/shard-2-model"),
    Point(Moment.BEFORE, "ShardReduced", 2),
    Point(Moment.AFTER, "ShardReduced", 2),
]
ON_A_MODEL = [
    Point(Moment.READING, "/shard-2-model"),
    Point(Moment.PUTTING, "models/"),
    Point(Moment.BEFORE, "ModelPublished"),
    Point(Moment.AFTER, "ModelPublished"),
]
ON_A_STATE = [  # mostly in the second round, where there is one already
    Point(Moment.READING_A_RANGE, "state/", 3),
    Point(Moment.PUTTING, "/shard-1-v", 2),
    Point(Moment.PUTTING, "state/", 4),
    Point(Moment.PUTTING, "models/", 2),
    Point(Moment.BEFORE, "ModelPublished", 2),
    Point(Moment.AFTER, "ModelPublished"),  # of the first round, whose files are written again in the second
]
ON_A_CHOICE = [
    Point(Moment.READING_A_RANGE, "updates/", 3),
    Point(Moment.PUTTING, "/measured-2"),
    Point(Moment.BEFORE, "ShardMeasured", 2),
    Point(Moment.AFTER, "ShardMeasured", 2),
    Point(Moment.READING, "/measured-2"),
    Point(Moment.BEFORE, "UpdatesChosen"),
    Point(Moment.AFTER, "UpdatesChosen"),
]
BY_STRATEGY: list[tuple[Strategy, Sequence[Point]]] = [
    (FedAvg(), [*ON_AN_UPDATE, *ON_A_SHARD, *ON_A_MODEL]),
    (FedAdam(), ON_A_STATE),
    (MultiKrum(f=1, k=2), ON_A_CHOICE),
]
KILLS = [
    pytest.param(strategy, point, id=f"{strategy.name}-{point}")
    for strategy, points in BY_STRATEGY
    for point in points
]


@dataclass(frozen=True)
class Outcome:
    """What a training leaves, but for names, times and order."""

    events: Counter[str]
    files: list[str]  # sha256 of each version of the model and of its state


@pytest.mark.parametrize(("strategy", "point"), KILLS)
async def test_after_a_kill_another_worker_ends_the_training_with_the_same_bits(
    scene: Scene, strategy: Strategy, point: Point, tmp_path: Path
) -> None:
    start = await scene.training(MODEL, LAYOUT.header_size, **a_plan(strategy))
    async with attending(scene, LAYOUT, careful), scene.running(aggregators=0):
        await scene.order(start)
        log = tmp_path / "worker.log"
        assert await end_of_a_worker(scene.place.aggregator(), point, log) == -signal.SIGKILL, log.read_text()
        assert await scene.state(start.training_id) == "running"
        async with served(partial(aggregator.run, scene.place.aggregator())):
            assert await scene.ended(start.training_id, within_s=60) == "completed"
    events = [envelope.data for envelope in await scene.events(start.training_id)]
    assert outcome(events) == undisturbed(strategy, scene.place.clients)
    for file in files_of(events):
        assert sha256_of(await asyncio.to_thread(fetch, scene.objects, file.key, file.size)) == file.sha256
    assert await scene.depth("dead-letters") == 0


def test_the_trainings_have_several_shards_and_end_differently() -> None:
    clients = tuple(ClientId(UUID(int=number)) for number in range(5))
    found = [undisturbed(strategy, clients) for strategy, _ in BY_STRATEGY]
    assert [each.events["ShardReduced"] for each in found] == [ROUNDS * SHARDS] * 3
    assert [each.events["ShardMeasured"] for each in found] == [0, 0, ROUNDS * SHARDS]
    assert [len(each.files) for each in found] == [ROUNDS, 3 * ROUNDS, ROUNDS]
    assert len({each.files[-1] for each in found}) == 3


def a_plan(strategy: Strategy) -> dict[str, Any]:
    size = -(-LAYOUT.data_size // (8 * SHARDS)) * 8
    return {
        "strategy": strategy,
        "rounds": ROUNDS,
        "shard_bytes": size,
        "evaluation": Evaluation(every=0),
        "participation": Participation(min_clients=5),
    }


async def careful(sites: Sites, command: ClientCommand) -> None:
    """As an agent is: a model is known by its sha256, as it may just be written again; a 5xx is no end."""
    if isinstance(command, TrainRound):
        seed = [sites.number(command.client_id), command.round]
        update = trained(LAYOUT, await whole_model(sites, command), seed)

        async def is_there() -> bool:
            return await sites.upload(command, update) == 200

        await until(is_there)
        await sites.tell_uploaded(command, update)


async def whole_model(sites: Sites, command: TrainRound) -> bytes:
    answers: list[bytes] = []

    async def has_come() -> bool:
        answers.append((await sites.http.get(granted(command).download_url)).content)
        return sha256_of(answers[-1]) == command.model.sha256

    await until(has_come)
    return answers[-1]


async def end_of_a_worker(settings: Settings, point: Point, log: Path) -> int:
    """Its exit code."""
    argv = (sys.executable, "-m", dying.__name__, str(point))
    with log.open("wb") as said:
        worker = await asyncio.create_subprocess_exec(*argv, cwd=ROOT, env=environment(settings), stderr=said)
    try:
        async with asyncio.timeout(30):
            return await worker.wait()
    finally:
        if worker.returncode is None:
            worker.kill()
            await worker.wait()


def environment(settings: Settings) -> dict[str, str]:
    plain = {k: v.get_secret_value() if isinstance(v, SecretStr) else str(v) for k, v in settings}
    return {f"WARREN_AGGREGATOR_{name}".upper(): text for name, text in plain.items()}


def undisturbed(strategy: Strategy, clients: tuple[ClientId, ...]) -> Outcome:
    """The same training in memory, where one worker does one command after the other."""
    objects = MemoryObjects()

    def upload(client: ClientId, round_: int) -> tuple[bytes, int, dict[str, float]]:
        key = keys.model_version(TRAINING, round_, round_) if round_ else keys.uploaded_model(MODEL_ID)
        number = clients.index(client)
        update = trained(LAYOUT, fetch(objects, key, LAYOUT.size), [number, round_])
        return update, 10 + number, {"loss": 0.5}

    model = (MODEL, LAYOUT.header_size)
    return outcome(played(objects, Worker(objects), model, clients, upload, **a_plan(strategy)))


def outcome(events: Sequence[Event]) -> Outcome:
    return Outcome(Counter(event.type for event in events), [file.sha256 for file in files_of(events)])


def files_of(events: Iterable[Event]) -> list[ModelRef | StateRef]:
    found: list[ModelRef | StateRef] = []
    for event in events:
        if isinstance(event, RoundAggregated):
            found += [*event.state, event.model]
    return found
