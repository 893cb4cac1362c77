"""Reduces one shard in a process of its own and tells how much memory that took, in bytes."""

import json
import sys
from pathlib import Path

from infra.objects.minio_objects import MinioObjects
from infra.objects.settings import ObjectStoreSettings
from schemas.commands import ReduceShard
from schemas.reports import ShardReduced
from services.aggregator.memory import return_large_blocks
from services.aggregator.work import Worker


def main() -> None:
    return_large_blocks()
    order = json.load(sys.stdin)
    worker = Worker(MinioObjects(ObjectStoreSettings.model_validate(order["store"])))
    command = ReduceShard.model_validate_json(json.dumps(order["command"]))
    report = worker.reduce_shard(command)
    assert isinstance(report, ShardReduced)
    json.dump({"peak": _peak(), "digest": report.digests[0]}, sys.stdout)


def _peak() -> int:
    """Of this program alone: `getrusage` also counts the process that started it."""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()
