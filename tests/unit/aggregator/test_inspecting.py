"""A worker inspects what lies in a store: what it answers, and that no thread outlives the answer."""

import hashlib
import json
import os
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from numpy._core._multiarray_umath import __cpu_dispatch__  # type: ignore[import-not-found]  # nowhere public

from infra.objects.errors import ObjectStoreUnavailable
from infra.objects.memory import MemoryObjects
from infra.objects.store import CHUNK, Content
from infra.weights.layout import Dtype, Layout, Tensor, canonical
from infra.weights.parts import update_layout
from schemas.commands import InspectUpdate
from schemas.reports import UpdateAccepted, UpdateRejected
from schemas.words import Extra, UpdateKind
from services.aggregator.known import StaleObject
from services.aggregator.work import Worker
from tests.builders import TRAINING
from tests.recompute import sha256_of
from tests.unit.aggregator.bench import Bench
from tests.unit.aggregator.test_inspection import without_large_numbers
from tests.unit.weights.strategies import file_of

LAYOUT = canonical(
    [
        Tensor("exact", Dtype.F64, (50_001,)),
        Tensor("w", Dtype.F32, (1_000, 1_000)),
        Tensor("h", Dtype.F16, (70_001,)),
        Tensor("b", Dtype.BF16, (40_000,)),
        Tensor("n", Dtype.I64, (5,)),
        Tensor("mask", Dtype.BOOL, (13,)),
    ]
)
W = [tensor.name for tensor in LAYOUT.tensors].index("w")
LAST = LAYOUT.size - 1  # a byte of `mask`


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


def an_update(seed: int, extra: Extra | None = None, tensors: tuple[int, ...] | None = None) -> bytes:
    layout: Layout = update_layout(LAYOUT, extra, tensors)
    return without_large_numbers(file_of(layout, seed), layout)


class Failing(MemoryObjects):
    """Reads of these objects break off after so many chunks."""

    def __init__(self) -> None:
        super().__init__()
        self.breaks: dict[str, int] = {}

    @contextmanager
    def read(
        self, key: str, span: range | None = None, *, expected_etag: str | None = None, chunk: int = CHUNK
    ) -> Iterator[Content]:
        with super().read(key, span, expected_etag=expected_etag, chunk=chunk) as content:
            yield replace(content, chunks=self._broken(content.chunks, self.breaks.get(key, 1_000)))

    def _broken(self, chunks: Iterator[bytes], count: int) -> Iterator[bytes]:
        for number, chunk in enumerate(chunks):
            if number == count:
                raise ObjectStoreUnavailable("it went away")
            yield chunk


@pytest.fixture
def objects() -> Failing:
    return Failing()


@pytest.fixture
def bench(objects: Failing) -> Bench:
    return Bench(objects, TRAINING, LAYOUT, shard_bytes=1 << 20)


def ordered(bench: Bench, content: bytes, **terms: object) -> InspectUpdate:
    """The order that follows its upload; `terms` are the round's."""
    bench.upload(1, content)
    return bench.inspection(1, content).model_copy(update=terms)


def test_what_a_measured_partial_update_is_like_is_reported(bench: Bench) -> None:
    content = an_update(1, Extra.CONTROL, (1, 3))
    order = ordered(bench, content, partial=True, extra=Extra.CONTROL, measures=True)
    report = Worker(bench.objects).inspect_update(order)
    assert isinstance(report, UpdateAccepted)
    assert report.tensors == (1, 3)
    assert (report.sha256, report.etag) == (sha256_of(content), bench.objects.stat(order.key).etag)
    assert len(report.digests) == bench.shards
    assert report.distance is not None
    assert report.distance > 0


@pytest.mark.parametrize(
    ("content", "terms", "code"),
    [
        (an_update(1, tensors=(1,)), {}, "weights_truncated"),
        (an_update(1, Extra.CONTROL), {}, "weights_padded"),
        (an_update(1), {"extra": Extra.CONTROL}, "weights_truncated"),
        (an_update(1), {"extra": Extra.CONTROL, "partial": True}, "header_differs"),
        (an_update(1)[:LAST] + b"\x02", {"measures": True}, "not_boolean"),
        (an_update(1)[:-1], {}, "weights_truncated"),
    ],
)
def test_what_is_not_on_the_rounds_terms_is_rejected(
    bench: Bench, content: bytes, terms: dict[str, object], code: str
) -> None:
    report = Worker(bench.objects).inspect_update(ordered(bench, content, **terms))
    assert isinstance(report, UpdateRejected)
    assert report.code == code


def test_a_refusal_in_the_middle_of_both_streams_is_the_answer(bench: Bench) -> None:
    content = bytearray(an_update(1))
    at = LAYOUT.header_size + LAYOUT.tensors[W].begin + 4
    content[at : at + 4] = b"\0\0\xc0\x7f"
    report = Worker(bench.objects).inspect_update(ordered(bench, bytes(content), measures=True))
    assert isinstance(report, UpdateRejected)
    assert (report.code, "'w'" in report.reason, "index 1" in report.reason) == ("not_finite", True, True)


def test_a_file_that_is_not_the_announced_one_is_rejected(bench: Bench) -> None:
    order = ordered(bench, an_update(1))
    bench.upload(1, an_update(2))
    report = Worker(bench.objects).inspect_update(order)
    assert isinstance(report, UpdateRejected)
    assert report.code == "digest_differs"


@pytest.mark.parametrize("chunks", [0, 2])
def test_a_store_that_fails_in_the_middle_of_an_update_is_a_fault(
    bench: Bench, objects: Failing, chunks: int
) -> None:
    order = ordered(bench, an_update(1), measures=True)
    objects.breaks[order.key] = chunks
    with pytest.raises(ObjectStoreUnavailable):
        Worker(objects).inspect_update(order)


@pytest.mark.parametrize("update", UpdateKind)
def test_a_store_that_fails_in_the_middle_of_the_model_is_a_fault(
    bench: Bench, objects: Failing, update: UpdateKind
) -> None:
    order = ordered(bench, an_update(1), measures=True, update=update)
    worker = Worker(objects)
    assert isinstance(worker.inspect_update(order), UpdateAccepted)
    objects.breaks[order.model.key] = 2
    with pytest.raises(ObjectStoreUnavailable):
        worker.inspect_update(order)


def test_an_update_is_not_blamed_for_a_model_that_has_gone_since_its_header_was_read(bench: Bench) -> None:
    order = ordered(bench, an_update(1), measures=True)
    worker = Worker(bench.objects)
    worker.inspect_update(order)
    bench.objects.delete(order.model.key)
    with pytest.raises(StaleObject, match="there is no object"):
        worker.inspect_update(order)


def figures(bench: Bench) -> list[object]:
    orders = (ordered(bench, an_update(1), measures=True, update=update) for update in UpdateKind)
    return [Worker(bench.objects).inspect_update(order).model_dump(mode="json") for order in orders]


@pytest.mark.slow
def test_the_figures_do_not_depend_on_what_the_processor_can_do(bench: Bench) -> None:
    program = (
        "import json, tests.unit.aggregator.test_inspecting as t;"
        "from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__;"
        "assert not any(__cpu_features__[name] for name in __cpu_dispatch__);"
        "bench = t.Bench(t.MemoryObjects(), t.TRAINING, t.LAYOUT, shard_bytes=1 << 20);"
        "print(json.dumps(t.figures(bench)))"
    )
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env=os.environ | {"NPY_DISABLE_CPU_FEATURES": " ".join(__cpu_dispatch__)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert json.loads(told.stdout) == json.loads(json.dumps(figures(bench)))


class Zeros(MemoryObjects):
    """Every object is a file of this layout, full of zeros that nobody keeps."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self._layout = layout

    @contextmanager
    def read(
        self, key: str, span: range | None = None, *, expected_etag: str | None = None, chunk: int = CHUNK
    ) -> Iterator[Content]:
        span = range(self._layout.size) if span is None else span
        yield Content(len(span), "etag", self.chunks(span))

    def chunks(self, span: range) -> Iterator[bytes]:
        header = self._layout.header[span.start : span.stop]
        yield header
        for at in range(span.start + len(header), span.stop, 1 << 20):
            yield bytes(min(1 << 20, span.stop - at))


def peak(elements: int) -> int:
    """Bytes that an inspection takes at most."""
    layout = canonical([Tensor("w", Dtype.F32, (elements,))])
    objects = Zeros(layout)
    digest = hashlib.sha256()
    for chunk in objects.chunks(range(layout.size)):
        digest.update(chunk)
    order = Bench(objects, TRAINING, layout, shard_bytes=1 << 20).inspection(1, b"")
    tracemalloc.start()
    try:
        measured = order.model_copy(update={"measures": True, "sha256": digest.hexdigest()})
        assert isinstance(Worker(objects).inspect_update(measured), UpdateAccepted)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_memory_holds_a_few_chunks_however_large_the_update_is() -> None:
    few, many = peak(4 << 20), peak(12 << 20)  # 16 and 48 MiB
    assert many < 1.2 * few
    assert many < 20 << 20
