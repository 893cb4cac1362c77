"""One site of several sends garbage: which rules hold?  python -m examples.robustness [--sites 5]"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from examples.robustness.attacks import ATTACKS
from examples.robustness.federation import Rule, federation

BULYANS_LEAST = 7  # 4f + 3 sites, of which f = 1 may send anything

RULES = (
    Rule("FedAvg"),
    Rule("FedAvg", norm_clip=3.0),
    Rule("FedMedian"),
    Rule("FedTrimmedAvg", {"beta": 0.2}),
    Rule("Krum", {"f": 1}),
    Rule("MultiKrum", {"f": 1, "k": 3}),
)


def rules_for(sites: int) -> tuple[Rule, ...]:
    return (*RULES, Rule("Bulyan", {"f": 1})) if sites >= BULYANS_LEAST else RULES


def table(sites: int, rounds: int, seed: int) -> Iterator[str]:
    """Accuracies, a line for each rule, a column for each kind of garbage."""
    yield f"{'':<24}" + "".join(f"{name:>10}" for name in ATTACKS)
    with tempfile.TemporaryDirectory() as folder:
        place = federation(sites, seed, Path(folder))
        for rule in rules_for(sites):
            found = [place.accuracy(rule, attack, rounds) for attack in ATTACKS.values()]
            yield f"{rule!s:<24}" + "".join(f"{accuracy:>10.3f}" for accuracy in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sites", type=int, default=5, help="one of which sends garbage; Bulyan takes 7")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=7)
    asked = parser.parse_args()
    began = time.monotonic()
    print(f"accuracy after {asked.rounds} rounds over {asked.sites} sites, one of which sends garbage:")
    for line in table(asked.sites, asked.rounds, asked.seed):
        print(line, flush=True)
    if asked.sites < BULYANS_LEAST:
        print(f"Bulyan takes {BULYANS_LEAST} sites for one that sends garbage: --sites {BULYANS_LEAST}")
    print(f"seconds={time.monotonic() - began:.1f}")


if __name__ == "__main__":
    main()
