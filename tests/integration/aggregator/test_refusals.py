"""Updates that are not what they must be, on the real store, through the real services."""

from collections.abc import Callable
from uuid import uuid4

import numpy as np
import pytest

from infra.objects.minio_objects import MinioObjects
from infra.weights.layout import Dtype, Tensor, canonical
from schemas.commands import ClientCommand, TrainRound
from schemas.events import RoundClosed, TaskReissued, TrainingFailed
from schemas.ids import TrainingId
from schemas.reports import UpdateRejected
from services.aggregator.work import Worker
from tests.integration.scheduler.small import LAYOUT as SMALL
from tests.integration.scheduler.small import a_training
from tests.place import Place
from tests.scene import Scene
from tests.sites import Behaviour, Sites, attending, honest
from tests.unit.aggregator.bench import LAYOUT, Bench, an_update

pytestmark = pytest.mark.integration

OTHER = canonical([*LAYOUT.tensors[:-1], Tensor("mosk", Dtype.BOOL, (13,))])
GOOD = an_update(1)


def with_bytes(name: str, index: int, raw: bytes) -> bytes:
    (tensor,) = (each for each in LAYOUT.tensors if each.name == name)
    at = LAYOUT.header_size + tensor.begin + index * tensor.dtype.itemsize
    return GOOD[:at] + raw + GOOD[at + len(raw) :]


REFUSED = {
    "truncated": (GOOD[:-1], "weights_truncated"),
    "empty": (b"", "weights_truncated"),
    "padded": (GOOD + b"\0", "weights_padded"),
    "other header": (OTHER.header + GOOD[LAYOUT.header_size :], "header_differs"),
    "no safetensors": (b"\x80\x02}" + GOOD[3:], "malformed_weights"),
    "NaN": (with_bytes("w", 29, np.float32("nan").tobytes()), "not_finite"),
    "infinite": (with_bytes("h", 10, np.float16("-inf").tobytes()), "not_finite"),
    "a boolean of 2": (with_bytes("mask", 12, b"\x02"), "not_boolean"),
}


@pytest.fixture
def bench(place: Place) -> Bench:
    return Bench(MinioObjects(place.store()), TrainingId(uuid4()))


@pytest.mark.parametrize(("content", "code"), REFUSED.values(), ids=REFUSED)
def test_a_file_that_is_not_a_sane_update_is_rejected(bench: Bench, content: bytes, code: str) -> None:
    bench.upload(1, content)
    report = Worker(bench.objects).inspect_update(bench.inspection(1, content))
    assert isinstance(report, UpdateRejected)
    assert report.code == code


def test_a_file_that_is_not_the_announced_one_is_rejected(bench: Bench) -> None:
    bench.upload(1, an_update(2))
    report = Worker(bench.objects).inspect_update(bench.inspection(1, GOOD))
    assert isinstance(report, UpdateRejected)
    assert report.code == "digest_differs"


def test_a_file_that_is_not_there_is_rejected(bench: Bench) -> None:
    report = Worker(bench.objects).inspect_update(bench.inspection(1, GOOD))
    assert isinstance(report, UpdateRejected)
    assert report.code == "object_missing"


def spoiling(spoil: Callable[[bytes], bytes], *, once: bool) -> Behaviour:
    """The first site spoils its updates: only the first, or all of them."""

    async def behave(sites: Sites, command: ClientCommand) -> None:
        is_spoilt = isinstance(command, TrainRound) and sites.number(command.client_id) == 0
        if not is_spoilt or (once and len(sites.heard[command.client_id]) > 1):
            return await honest(sites, command)
        assert isinstance(command, TrainRound)
        content = spoil(await sites.update(command))
        assert await sites.upload(command, content) == 200
        return await sites.tell_uploaded(command, content)

    return behave


def with_nan(update: bytes) -> bytes:
    return update[:-4] + np.float32("nan").tobytes()


async def test_a_site_whose_update_was_rejected_is_asked_once_more(scene: Scene) -> None:
    start = await a_training(scene)
    async with attending(scene, SMALL, spoiling(with_nan, once=True)), scene.running():
        await scene.order(start)
        assert await scene.ended(start.training_id) == "completed"
    said = [envelope.data for envelope in await scene.events(start.training_id)]
    (rejected,) = [event for event in said if isinstance(event, UpdateRejected)]
    assert (rejected.client_id, rejected.code) == (scene.place.clients[0], "not_finite")
    assert [event.replaces for event in said if isinstance(event, TaskReissued)] == [rejected.task_id]
    (closed,) = [event for event in said if isinstance(event, RoundClosed)]
    assert len(closed.accepted) == len(scene.place.clients)


async def test_a_round_goes_on_without_a_site_that_uploads_nothing_sane(scene: Scene) -> None:
    start = await a_training(scene, min_clients=2)
    async with attending(scene, SMALL, spoiling(with_nan, once=False)), scene.running():
        await scene.order(start)
        assert await scene.ended(start.training_id) == "completed"
    said = [envelope.data for envelope in await scene.events(start.training_id)]
    (closed,) = [event for event in said if isinstance(event, RoundClosed)]
    assert len(closed.accepted) == len(scene.place.clients) - 1
    assert sum(isinstance(event, UpdateRejected) for event in said) == 2


async def test_without_a_quorum_of_sane_updates_the_training_fails_naming_who_was_missing(
    scene: Scene,
) -> None:
    start = await a_training(scene, min_clients=5, round_attempts=1, task_attempts=1)
    async with attending(scene, SMALL, spoiling(with_nan, once=False)), scene.running():
        await scene.order(start)
        assert await scene.ended(start.training_id) == "failed"
    (failed,) = [e.data for e in await scene.events(start.training_id) if isinstance(e.data, TrainingFailed)]
    assert failed.missing == scene.place.clients[:1]
