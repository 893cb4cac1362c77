"""A worker process without a broker: orders by standard input, a line each; reports by standard output."""

import hashlib
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

from pydantic import SecretStr

import services.aggregator.app  # noqa: F401 -- what a real worker has loaded counts
from infra.objects.files import FileObjects
from infra.objects.minio_objects import MinioObjects
from infra.objects.store import ObjectStore
from schemas.reports import AggregatorReport
from services.aggregator.memory import return_large_blocks
from services.aggregator.work import Worker
from tests.bench.aggregation.orders import Answered, Asked, Begin, Do, Ended, Hash, Place, Read

_MIB = 1 << 20


def main(place: str, threads: str) -> None:
    return_large_blocks()
    objects = _store(Place.model_validate_json(place))
    bench = _Process(objects)
    with ThreadPoolExecutor(int(threads)) as pool:
        list(pool.map(bench.answer, sys.stdin))
    _say(Ended(peak_mb=_peak_mb(), cpu_s=time.process_time() - bench.began))


class _Process:
    def __init__(self, objects: ObjectStore) -> None:
        self._objects, self._worker, self._lock = objects, Worker(objects), Lock()
        self.began = 0.0

    def answer(self, line: str) -> None:
        asked = Asked.model_validate_json(line)
        began = time.perf_counter()
        report = self._obey(asked.order)
        answer = Answered(number=asked.number, seconds=time.perf_counter() - began, report=report)
        with self._lock:
            _say(answer)

    def _obey(self, order: Do | Read | Hash | Begin) -> AggregatorReport | None:
        match order:
            case Do():
                return self._worker.obey(order.command)
            case Read():
                span = range(order.start, order.stop)
                with self._objects.read(order.key, span, expected_etag=order.etag) as chunks:
                    assert _total(chunks) == len(span)
            case Hash():
                _hash(order.size)
            case Begin():
                self.began = time.process_time()
        return None


def _store(place: Place) -> ObjectStore:
    if place.s3 is None:
        return FileObjects(Path(place.folder))
    return MinioObjects(place.s3.model_copy(update={"secret_key": SecretStr(place.secret)}))


def _total(chunks: Iterable[bytes]) -> int:
    return sum(map(len, chunks))


def _hash(size: int) -> None:
    block, digest = bytes(_MIB), hashlib.sha256()
    for _ in range(size // _MIB):
        digest.update(block)


def _say(answer: Answered | Ended) -> None:
    sys.stdout.write(answer.model_dump_json() + "\n")
    sys.stdout.flush()


def _peak_mb() -> float:
    """Of this program alone: `getrusage` also counts the process that started it."""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


if __name__ == "__main__":
    main(*sys.argv[1:])
