"""A reduction needs the memory of one shard, however many updates there are."""

import json
import subprocess
import sys
from uuid import uuid4

import pytest

from infra.objects.minio_objects import MinioObjects
from infra.weights.layout import Dtype, Tensor, canonical
from schemas.commands import ReduceShard
from schemas.ids import TrainingId
from services.aggregator.work import Worker
from tests.place import Place
from tests.unit.aggregator.bench import Bench

pytestmark = pytest.mark.integration

MIB = 1 << 20
LAYOUT = canonical([Tensor("w", Dtype.F32, (2 * MIB,))])  # 8 MiB
MANY = 24


@pytest.fixture(scope="module")
def bench(place: Place) -> Bench:
    return Bench(MinioObjects(place.store()), TrainingId(uuid4()), LAYOUT, shard_bytes=8 * MIB)


def peak(place: Place, command: ReduceShard) -> int:
    store = {**place.store().model_dump(), "secret_key": place.endpoints.s3.secret_key}
    order = {"store": store, "command": command.model_dump(mode="json")}
    told = subprocess.run(
        [sys.executable, "-m", "tests.integration.aggregator.peak"],
        input=json.dumps(order),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return int(json.loads(told.stdout)["peak"])


def test_memory_does_not_grow_with_the_number_of_updates(place: Place, bench: Bench) -> None:
    accepted = bench.taken_in(Worker(bench.objects), range(1, MANY + 1))
    few = peak(place, bench.reduction(bench.plan(accepted[:4]), 0))
    many = peak(place, bench.reduction(bench.plan(accepted), 0))
    assert many < 1.15 * few, (few, many)
