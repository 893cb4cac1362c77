"""Measures Warren, one figure per line: python -m tests.bench [rounds] [restart] [uploads]"""

import sys
import tempfile
from pathlib import Path

from tests.bench import ground, restart, rounds, uploads

MEASUREMENTS = {"rounds": rounds.report, "restart": restart.report, "uploads": uploads.report}


def main() -> None:
    chosen = sys.argv[1:] or list(MEASUREMENTS)
    print(ground.machine(), flush=True)
    with tempfile.TemporaryDirectory() as root, ground.warren(Path(root)) as (deployment, fleet):
        for name in chosen:
            for line in MEASUREMENTS[name](deployment, fleet):
                print(line, flush=True)


if __name__ == "__main__":
    main()
