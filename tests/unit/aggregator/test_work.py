from collections.abc import Callable
from dataclasses import replace

import pytest
from blake3 import blake3

from infra.objects.memory import MemoryObjects
from infra.objects.store import ObjectStat, fetch
from schemas import keys
from schemas.reports import ModelPublished, ShardReduced, UpdateLost, UpdateRejected
from services.aggregator.known import StaleObject
from services.aggregator.work import Worker
from tests.builders import TRAINING
from tests.recompute import mean_file, sha256_of
from tests.unit.aggregator.bench import EPOCH, LAYOUT, Bench, an_update

Lose = Callable[[Bench, int], None]

CLIENTS = (1, 2, 5)
EXPECTED = mean_file(LAYOUT, [(10 + client, an_update(client)) for client in CLIENTS])


@pytest.fixture
def objects() -> MemoryObjects:
    return MemoryObjects()


@pytest.fixture
def worker(objects: MemoryObjects) -> Worker:
    return Worker(objects)


@pytest.fixture(params=[64, 1 << 20], ids=["many shards", "one shard"])
def bench(request: pytest.FixtureRequest, objects: MemoryObjects) -> Bench:
    return Bench(objects, TRAINING, shard_bytes=request.param)


def reduced(bench: Bench, worker: Worker, plan: tuple[str, str]) -> list[tuple[str, ...]]:
    """The digests of all shards."""
    reports = [worker.reduce_shard(bench.reduction(plan, shard)) for shard in range(bench.shards)]
    return [report.digests for report in reports if isinstance(report, ShardReduced)]


def test_an_accepted_update_is_described_so_that_it_can_be_recognised(bench: Bench, worker: Worker) -> None:
    (report,) = bench.taken_in(worker, [1])
    assert report.etag == bench.objects.stat(bench.key(1)).etag
    assert report.sha256 == sha256_of(an_update(1))
    assert len(report.digests) == bench.shards


def test_shards_and_model_are_the_mean_of_the_planned_updates(bench: Bench, worker: Worker) -> None:
    plan = bench.plan(bench.taken_in(worker, CLIENTS))
    published = worker.publish_model(bench.publication(plan, reduced(bench, worker, plan)))
    assert isinstance(published, ModelPublished)
    model = published.model
    assert fetch(bench.objects, model.key, model.size) == EXPECTED
    assert (model.version, model.sha256, model.size) == (1, sha256_of(EXPECTED), len(EXPECTED))


def test_each_shard_is_stored_under_its_epoch_with_the_digest_that_is_told(
    bench: Bench, worker: Worker
) -> None:
    plan = bench.plan(bench.taken_in(worker, CLIENTS))
    digests = reduced(bench, worker, plan)
    stored = [
        fetch(bench.objects, keys.shard(bench.training, 0, EPOCH, shard), 1 << 20)
        for shard in range(bench.shards)
    ]
    assert [blake3(content).hexdigest() for content in stored] == [digest for (digest,) in digests]
    assert LAYOUT.header + b"".join(stored) == EXPECTED


def test_a_single_shard_needs_no_reduction_before_it_is_published(
    objects: MemoryObjects, worker: Worker
) -> None:
    bench = Bench(objects, TRAINING, shard_bytes=1 << 20)
    plan = bench.plan(bench.taken_in(worker, CLIENTS))
    published = worker.publish_model(bench.publication(plan, ()))
    assert isinstance(published, ModelPublished)
    assert published.model.sha256 == sha256_of(EXPECTED)


def test_doing_everything_twice_and_by_two_workers_changes_nothing(
    bench: Bench, worker: Worker, objects: MemoryObjects
) -> None:
    other = Worker(objects)
    first, second = bench.taken_in(worker, CLIENTS), bench.taken_in(other, CLIENTS)
    assert first == second
    plan = bench.plan(first)
    digests = reduced(bench, worker, plan)
    assert digests == reduced(bench, other, plan)
    publication = bench.publication(plan, digests)
    assert worker.publish_model(publication) == other.publish_model(publication)


def test_an_update_that_is_gone_is_rejected(bench: Bench, worker: Worker) -> None:
    report = worker.inspect_update(bench.inspection(1, an_update(1)))
    assert isinstance(report, UpdateRejected)
    assert report.code == "object_missing"


def deleted(bench: Bench, client: int) -> None:
    bench.objects.delete(bench.key(client))


def other_than_it_was(bench: Bench, client: int) -> None:
    bench.upload(client, an_update(99))


def cut_short(bench: Bench, client: int) -> None:
    bench.upload(client, an_update(client)[:-1])


@pytest.mark.parametrize("lose", [deleted, other_than_it_was, cut_short])
def test_an_update_that_was_accepted_and_is_no_more_what_it_was_is_named_as_lost(
    bench: Bench, worker: Worker, lose: Lose
) -> None:
    plan = bench.plan(bench.taken_in(worker, CLIENTS))
    lose(bench, 2)
    last = bench.shards - 1
    report = worker.reduce_shard(bench.reduction(plan, last))
    assert isinstance(report, UpdateLost)
    assert (report.client_id.int, report.epoch) == (2, EPOCH)
    assert list(bench.objects.keys(f"rounds/{bench.training}/0/epoch-{EPOCH}/shard-{last}")) == []


@pytest.mark.parametrize("lose", [deleted, other_than_it_was, cut_short])
def test_a_single_shard_is_not_published_with_a_lost_update(
    objects: MemoryObjects, worker: Worker, lose: Lose
) -> None:
    bench = Bench(objects, TRAINING, shard_bytes=1 << 20)
    plan = bench.plan(bench.taken_in(worker, CLIENTS))
    lose(bench, 5)
    report = worker.publish_model(bench.publication(plan, ()))
    assert isinstance(report, UpdateLost)
    assert report.client_id.int == 5
    assert list(objects.keys(f"models/{TRAINING}/")) == []


class Sleepy(MemoryObjects):
    """A store whose etags never change."""

    def stat(self, key: str) -> ObjectStat:
        return replace(super().stat(key), etag="always")


def test_a_change_that_keeps_size_and_etag_is_found_by_the_digests() -> None:
    objects = Sleepy()
    worker, bench = Worker(objects), Bench(objects, TRAINING)
    plan = bench.plan(bench.taken_in(worker, CLIENTS))
    other_than_it_was(bench, 1)
    for shard in range(bench.shards):
        report = worker.reduce_shard(bench.reduction(plan, shard))
        assert isinstance(report, UpdateLost)
        assert report.client_id.int == 1


def test_a_plan_that_is_not_the_ordered_one_is_a_fault_and_not_used(bench: Bench, worker: Worker) -> None:
    key, _ = bench.plan(bench.taken_in(worker, CLIENTS))
    with pytest.raises(StaleObject, match="not the plan"):
        worker.reduce_shard(bench.reduction((key, "0" * 64), 0))
    with pytest.raises(StaleObject, match="there is no object"):
        worker.reduce_shard(bench.reduction((f"{key}x", "0" * 64), 0))


def test_shards_that_are_not_the_reported_ones_are_a_fault_and_not_published(
    objects: MemoryObjects, worker: Worker
) -> None:
    bench = Bench(objects, TRAINING)
    plan = bench.plan(bench.taken_in(worker, CLIENTS))
    digests = reduced(bench, worker, plan)
    objects.put(keys.shard(TRAINING, 0, EPOCH, 1), [bytes(64)], 64)
    with pytest.raises(StaleObject):
        worker.publish_model(bench.publication(plan, digests))
    objects.delete(keys.shard(TRAINING, 0, EPOCH, 1))
    with pytest.raises(StaleObject, match="there is no object"):
        worker.publish_model(bench.publication(plan, digests))
    assert list(objects.keys(f"models/{TRAINING}/")) == []


def test_an_update_is_not_blamed_for_a_model_that_cannot_be_read(bench: Bench, worker: Worker) -> None:
    order = bench.inspection(1, an_update(1))
    bench.upload(1, an_update(1))
    bench.objects.delete(order.model.key)
    with pytest.raises(StaleObject, match="there is no object"):
        worker.inspect_update(order)
