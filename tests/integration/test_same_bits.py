"""The same updates give the same model, to the bit, whoever computes it, in whatever pieces and order."""

import asyncio
from collections import defaultdict
from random import Random
from typing import Any

import pytest

from infra.objects.store import fetch
from infra.weights.layout import Dtype, Layout, Tensor, canonical
from schemas import keys
from schemas.commands import ClientCommand, StartTraining, TrainRound
from schemas.events import RoundAggregated, RoundClosed
from schemas.ids import TaskId
from schemas.plan import Evaluation
from schemas.reports import ModelUploaded
from tests.recompute import mean_file, sha256_of, trained
from tests.scene import Scene
from tests.sites import Behaviour, Sites, attending, honest

pytestmark = pytest.mark.integration

LAYOUT = canonical(
    [
        Tensor("exact", Dtype.F64, (1_500,)),  # whose last bits tell in which order they were added
        Tensor("conv.weight", Dtype.F32, (60, 70)),
        Tensor("conv.half", Dtype.F16, (1_001,)),
        Tensor("head.brain", Dtype.BF16, (333, 3)),
        Tensor("norm.batches", Dtype.I64, (77,)),
        Tensor("mask", Dtype.BOOL, (1_003,)),
        Tensor("nothing", Dtype.F32, (0, 4)),
    ]
)
LARGE = canonical([Tensor("w", Dtype.F32, (400_001,)), Tensor("h", Dtype.F16, (99_999,))])
KIB = 1 << 10
ROUNDS = 2


def a_model(layout: Layout) -> bytes:
    return trained(layout, layout.header + bytes(layout.data_size), [2026])


def expected(scene: Scene, layout: Layout) -> str:
    """Computed here, from nothing but the model and the seeds."""
    model = a_model(layout)
    for number in range(ROUNDS):
        updates = [
            (10 + index, trained(layout, model, [index, number])) for index in range(len(scene.place.clients))
        ]
        model = mean_file(layout, updates)
    return sha256_of(model)


def repeating_in_any_order(seed: int) -> Behaviour:
    """Reports come late, in another order each time, and more than once."""
    random = Random(seed)

    async def behave(sites: Sites, command: ClientCommand) -> None:
        if not isinstance(command, TrainRound):
            return await honest(sites, command)
        update = await sites.update(command)
        await asyncio.sleep(random.random() / 20)
        for _ in range(random.randint(1, 3)):
            assert await sites.upload(command, update) == 200
            await sites.tell_uploaded(command, update)
        return None

    return behave


async def a_run(
    scene: Scene, layout: Layout, behaviour: Behaviour, aggregators: int, shard_bytes: int | None
) -> StartTraining:
    plan: dict[str, Any] = {} if shard_bytes is None else {"shard_bytes": shard_bytes}
    plan |= {"rounds": ROUNDS, "evaluation": Evaluation(every=0)}
    start = await scene.training(a_model(layout), layout.header_size, **plan)
    async with attending(scene, layout, behaviour), scene.running(aggregators=aggregators):
        await scene.order(start)
        assert await scene.ended(start.training_id) == "completed"
    return start


async def published(scene: Scene, start: StartTraining) -> list[str]:
    events = [envelope.data for envelope in await scene.events(start.training_id)]
    models = [event.model for event in events if isinstance(event, RoundAggregated)]
    assert [sha256_of(fetch(scene.objects, model.key, model.size)) for model in models] == [
        model.sha256 for model in models
    ], "I7"
    return [model.sha256 for model in models]


@pytest.mark.parametrize(
    ("aggregators", "shard_bytes"), [(1, None), (1, 8 * KIB), (2, 64 * KIB), (2, 8 * KIB), (4, 8 * KIB)]
)
async def test_the_model_is_the_same_for_any_number_of_workers_and_shards(
    scene: Scene, aggregators: int, shard_bytes: int | None
) -> None:
    start = await a_run(scene, LAYOUT, honest, aggregators, shard_bytes)
    assert (await published(scene, start))[-1] == expected(scene, LAYOUT)


@pytest.mark.parametrize("seed", [1, 2])
async def test_the_model_is_the_same_for_any_order_and_number_of_reports(scene: Scene, seed: int) -> None:
    start = await a_run(scene, LAYOUT, repeating_in_any_order(seed), 2, 8 * KIB)
    assert (await published(scene, start))[-1] == expected(scene, LAYOUT)


async def test_a_model_of_many_shards_is_the_same_as_of_one(scene: Scene) -> None:
    start = await a_run(scene, LARGE, honest, 2, 64 * KIB)
    types = await scene.types(start.training_id)
    assert types.count("ShardReduced") == ROUNDS * -(-LARGE.data_size // (64 * KIB))
    assert (await published(scene, start))[-1] == expected(scene, LARGE)


async def test_each_model_is_the_mean_of_the_recorded_accepted_updates(scene: Scene) -> None:
    """I6, from the event log and the bucket alone."""
    start = await a_run(scene, LAYOUT, repeating_in_any_order(3), 2, 64 * KIB)
    events = [envelope.data for envelope in await scene.events(start.training_id)]
    uploads: dict[TaskId, ModelUploaded] = {e.task_id: e for e in events if isinstance(e, ModelUploaded)}
    recomputed: dict[int, str] = defaultdict(str)
    for closed in (event for event in events if isinstance(event, RoundClosed)):
        accepted = sorted((uploads[task] for task in closed.accepted), key=lambda upload: upload.client_id)
        files = [
            fetch(scene.objects, keys.update(start.training_id, closed.round, each.task_id), LAYOUT.size)
            for each in accepted
        ]
        weights = [each.num_examples for each in accepted]
        recomputed[closed.round] = sha256_of(mean_file(LAYOUT, list(zip(weights, files, strict=True))))
    assert list(recomputed.values()) == await published(scene, start)
