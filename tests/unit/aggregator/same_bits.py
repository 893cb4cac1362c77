"""Plays a fixed round of every strategy and prints what came of it: python -m tests.unit.aggregator.same_bits

First the features of the processor that numpy uses, then a digest of each strategy.
"""

import hashlib
import sys

import numpy as np

from infra.objects.memory import MemoryObjects
from services.aggregator.reducing.sources import Limits
from services.aggregator.work import Worker
from tests.unit.aggregator.examples import RULES, STRATEGIES, a_round
from tests.unit.aggregator.rounds import Game, files


def main() -> None:
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    sys.stdout.write(" ".join(found) + "\n")
    for strategy in STRATEGIES:
        objects = MemoryObjects()
        game = Game(objects, Worker(objects, RULES, Limits(window=2_000, all_rows=2_000)))
        round_ = a_round(strategy, norm_clip=11.0)
        _, plan = game.plan(round_, game.model(round_))
        model, state = files(objects, game.played(plan))
        digest = hashlib.sha256(model + b"".join(state.values())).hexdigest()
        sys.stdout.write(f"{strategy.name} {digest}\n")


if __name__ == "__main__":
    main()
