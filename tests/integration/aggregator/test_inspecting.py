"""Updates of every kind on the real store are found to be what they are in memory."""

from uuid import uuid4

import pytest

from infra.objects.memory import MemoryObjects
from infra.objects.minio_objects import MinioObjects
from infra.objects.store import ObjectStore
from schemas.ids import TrainingId
from schemas.reports import UpdateAccepted
from schemas.words import Extra, UpdateKind
from services.aggregator.work import Worker
from tests.place import Place
from tests.unit.aggregator.bench import Bench
from tests.unit.aggregator.test_inspecting import LAYOUT, an_update, ordered

pytestmark = pytest.mark.integration

TRAINING = TrainingId(uuid4())


def inspected(objects: ObjectStore, content: bytes, **terms: object) -> UpdateAccepted:
    bench = Bench(objects, TRAINING, LAYOUT, shard_bytes=1 << 20)
    report = Worker(objects).inspect_update(ordered(bench, content, **terms))
    assert isinstance(report, UpdateAccepted)
    return report


@pytest.mark.parametrize("update", UpdateKind)
@pytest.mark.parametrize("extra", [None, Extra.CONTROL])
@pytest.mark.parametrize("tensors", [None, (1, 3), (4,)])
def test_an_update_is_the_same_on_the_real_store(
    place: Place, update: UpdateKind, extra: Extra | None, tensors: tuple[int, ...] | None
) -> None:
    content = an_update(1, extra, tensors)
    terms = {"update": update, "extra": extra, "partial": tensors is not None, "measures": True}
    found = inspected(MinioObjects(place.store()), content, **terms)
    expected = inspected(MemoryObjects(), content, **terms)
    assert found.model_copy(update={"etag": expected.etag}) == expected
    assert found.tensors == tensors
