"""Warren and Flower on the same updates, in turn: python -m tests.bench.peers [--python PYTHON] [--quick]

Flower is optional: PYTHON is one that has it (`pip install flwr`).  Without it nothing is measured.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from schemas.strategies import FedAvg, FedMedian, MultiKrum, Strategy
from tests.bench.aggregation.figures import line
from tests.bench.aggregation.ground import Measured, in_files
from tests.bench.aggregation.updates import Size, Updates
from tests.bench.ground import machine

TIMES = 3
RULES: tuple[tuple[Strategy, Size], ...] = (
    (FedAvg(), Size(16, 100)),
    (FedMedian(), Size(16, 25)),
    (MultiKrum(f=2, k=4), Size(16, 25)),
)
QUICK = Size(16, 5)
_FLOWER = Path(__file__).with_name("flower.py")


@dataclass(frozen=True)
class Peer:
    """One aggregation by Flower, in a fresh process."""

    load_s: float  # from files into memory
    combine_s: float
    peak_mb: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default=sys.executable, help="the Python that has Flower")
    parser.add_argument("--quick", action="store_true", help="small models, once")
    parser.add_argument(
        "--dir", type=Path, help="where there is room for 4 GB; default: the temporary folder"
    )
    asked = parser.parse_args()
    version = _version(asked.python)
    if version is None:
        print(f"skipped: {asked.python} has no Flower; `pip install flwr` into an environment and name its")
        print("Python: make bench-peers PEERS_PYTHON=...")
        return
    print(f"{machine()}, Flower {version}", flush=True)
    for strategy, size in RULES:
        for told in _compared(strategy, QUICK if asked.quick else size, asked):
            print(told, flush=True)


def _version(python: str) -> str | None:
    look = "from importlib.metadata import version; import flwr; print(version('flwr'))"
    asked = subprocess.run([python, "-c", look], capture_output=True, text=True, check=False)
    return asked.stdout.strip() if asked.returncode == 0 else None


def _compared(strategy: Strategy, size: Size, asked: argparse.Namespace) -> Iterator[str]:
    ours, theirs = [], []
    with tempfile.TemporaryDirectory(dir=asked.dir) as folder, in_files(Path(folder), size) as ground:
        for _ in range(1 if asked.quick else TIMES):
            ours.append(ground.aggregate(size, strategy, threads=2))
            theirs.append(_flower(asked.python, strategy.name, ground.updates[size], Path(folder)))
    yield from _lines(f"strategy={strategy.name} {size}", size, ours, theirs)


def _flower(python: str, rule: str, updates: Updates, folder: Path) -> Peer:
    layout = updates.size.layout
    order = {
        "rule": rule,
        "tensors": [[layout.header_size + t.begin, t.size // t.dtype.itemsize] for t in layout.tensors],
        "updates": [
            {"file": str(folder / update.key), "num_examples": update.num_examples}
            for update in updates.accepted
        ],
    }
    done = subprocess.run(
        [python, str(_FLOWER)], input=json.dumps(order), stdout=subprocess.PIPE, text=True, check=True
    )
    return Peer(**json.loads(done.stdout))


def _lines(name: str, size: Size, ours: list[Measured], theirs: list[Peer]) -> Iterator[str]:
    """Warren's speed is from files to a file.  Flower's is said with and without reading its files."""
    whole = [size.total_mb / (each.load_s + each.combine_s) for each in theirs]
    bare = [size.total_mb / each.combine_s for each in theirs]
    yield line(f"warren_mb_s {name}", [each.mb_s for each in ours])
    yield line(f"flower_mb_s {name}", whole)
    yield line(f"flower_in_memory_mb_s {name}", bare)
    yield line(f"speed_ratio {name}", _ratios([each.mb_s for each in ours], whole), ".2f")
    yield line(f"speed_ratio_to_in_memory {name}", _ratios([each.mb_s for each in ours], bare), ".2f")
    yield line(f"warren_peak_rss_mb {name}", [each.peak_mb for each in ours])
    yield line(f"flower_peak_rss_mb {name}", [each.peak_mb for each in theirs])
    peaks = _ratios([each.peak_mb for each in theirs], [each.peak_mb for each in ours])
    yield line(f"memory_ratio {name}", peaks, ".1f")


def _ratios(these: list[float], those: list[float]) -> list[float]:
    return [this / that for this, that in zip(these, those, strict=True)]


if __name__ == "__main__":
    main()
