"""Trains the same model on everybody's images in one place: what the federated result is measured against."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from examples.digits.learning import Options, evaluate, fit, make_repeatable, read_images
from examples.digits.model import initial_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that data.py wrote")
    parser.add_argument("--epochs", type=int, default=18, help="rounds times local epochs")
    parser.add_argument("--seed", type=int, default=7)
    asked = parser.parse_args()

    began = time.perf_counter()
    net = initial_model(asked.seed)
    make_repeatable(asked.seed, "baseline")
    fit(net, read_images(asked.data / "pooled.npz"), Options(local_epochs=asked.epochs))
    score = evaluate(net, read_images(asked.data / "heldout.npz"))
    print(json.dumps(score._asdict() | {"seconds": round(time.perf_counter() - began, 2)}))


if __name__ == "__main__":
    main()
