"""Writes the model that the first round starts from."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from examples.digits.model import initial_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    save_file(initial_model(options.seed).state_dict(), options.out)


if __name__ == "__main__":
    main()
