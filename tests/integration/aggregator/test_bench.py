"""The bench of the aggregator: it measures what workers really do, so it must go on fitting them."""

import re
import subprocess
import sys

import pytest

pytestmark = pytest.mark.integration

LINE = re.compile(r"(\w+) .*times=1 median=[0-9.]+ min=[0-9.]+ max=[0-9.]+.*")


@pytest.mark.parametrize(
    ("measured", "figures"),
    [
        ("inspection", ["inspect_mb_s", "sha256_mb_s", "inspect_fraction_of_sha256"]),
        ("files", ["file_read_gb_s", "combine_gb_s"]),
    ],
)
def test_each_figure_is_a_line(measured: str, figures: list[str]) -> None:
    argv = [sys.executable, "-m", "tests.bench.aggregation", "--quick", measured]
    machine, *lines = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    assert machine.startswith("machine: ")
    found = [LINE.fullmatch(line) for line in lines]
    assert [match and match[1] for match in found] == figures
