"""Measures the aggregator, one figure per line: python -m tests.bench.aggregation [--quick] [FIGURES...]

`--quick` takes small models, once: to try it out.
"""

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench.aggregation import figures
from tests.bench.aggregation.ground import in_files, in_s3
from tests.bench.aggregation.updates import Size
from tests.bench.ground import machine

MEASUREMENTS = {
    "inspection": (figures.of_inspection, in_s3),
    "files": (figures.of_files, in_files),
    "strategies": (figures.of_strategies, in_s3),
    "workers": (figures.of_two_workers, in_s3),
}


@dataclass(frozen=True)
class Extent:
    times: int
    sizes: dict[str, tuple[Size, ...]]  # by measurement


WHOLE = Extent(
    times=3,
    sizes={
        "inspection": (Size(8, 25),),
        "files": (Size(16, 100),),
        "strategies": (Size(8, 25), Size(32, 25), Size(128, 25), Size(8, 400)),
        "workers": (Size(8, 400),),
    },
)
QUICK = Extent(
    times=1,
    sizes={
        "inspection": (Size(8, 5),),
        "files": (Size(16, 10),),
        "strategies": (Size(8, 5), Size(32, 5), Size(8, 40)),
        "workers": (Size(8, 40),),
    },
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "figures", nargs="*", metavar="FIGURES", help=f"any of {', '.join(MEASUREMENTS)}; default: all"
    )
    parser.add_argument("--quick", action="store_true", help="small models, once")
    parser.add_argument(
        "--dir", type=Path, help="where there is room for 10 GB; default: the temporary folder"
    )
    asked = parser.parse_args()
    if strange := set(asked.figures) - set(MEASUREMENTS):
        parser.error(f"no figures are called {', '.join(sorted(strange))}")
    print(machine(), flush=True)
    for name in asked.figures or MEASUREMENTS:
        for line in _lines(name, QUICK if asked.quick else WHOLE, asked.dir):
            print(line, flush=True)


def _lines(name: str, extent: Extent, folder: Path | None) -> Iterator[str]:
    measure, place = MEASUREMENTS[name]
    for size in extent.sizes[name]:
        with tempfile.TemporaryDirectory(dir=folder) as root, place(Path(root), size) as ground:
            yield from measure(ground, size, extent.times)


if __name__ == "__main__":
    main()
