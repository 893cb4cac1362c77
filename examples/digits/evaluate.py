"""Tests a model on everything that was held out."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from examples.digits.learning import evaluate, make_repeatable, read_images
from examples.digits.model import DigitsNet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="safetensors file")
    parser.add_argument("--data", type=Path, required=True, help="folder that data.py wrote")
    asked = parser.parse_args()
    net = DigitsNet()
    net.load_state_dict(load_file(asked.model))
    make_repeatable("evaluate")
    print(json.dumps(evaluate(net, read_images(asked.data / "heldout.npz"))._asdict()))


if __name__ == "__main__":
    main()
