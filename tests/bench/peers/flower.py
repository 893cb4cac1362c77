"""Flower's aggregation of updates in files.  Runs by a Python that has `flwr`, and imports nothing of ours.

The order comes by standard input, what it took is said by standard output.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from flwr.server.strategy.aggregate import aggregate, aggregate_krum, aggregate_median
from numpy.typing import NDArray

Results = list[tuple[list[NDArray[Any]], int]]


def main() -> None:
    order = json.load(sys.stdin)
    rule = RULES[order["rule"]]
    rule([([np.ones(1_000, np.float32)], 1)] * 8)  # so that the measured call is not the first
    began = time.perf_counter()
    results = [
        (_arrays(Path(update["file"]), order["tensors"]), update["num_examples"])
        for update in order["updates"]
    ]
    loaded = time.perf_counter()
    rule(results)
    ended = time.perf_counter()
    took = {"load_s": loaded - began, "combine_s": ended - loaded, "peak_mb": _peak_mb()}
    json.dump(took, sys.stdout)


def _arrays(file: Path, tensors: list[tuple[int, int]]) -> list[NDArray[Any]]:
    """Offset into the file and number of elements of each."""
    return [np.fromfile(file, np.float32, elements, offset=begin) for begin, elements in tensors]


def _peak_mb() -> float:
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


def _krum(results: Results) -> list[NDArray[Any]]:
    return aggregate_krum(results, num_malicious=2, to_keep=4)  # type: ignore[no-any-return]


RULES: dict[str, Callable[[Results], list[NDArray[Any]]]] = {
    "FedAvg": aggregate,
    "FedMedian": aggregate_median,
    "MultiKrum": _krum,
}


if __name__ == "__main__":
    main()
