"""The digits site as a plain script: `python site.py train|test --training-id ID --round N --model-id ID`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # found from any folder, by any interpreter

from examples.digits.learning import Options, evaluate, make_repeatable, read_images
from examples.digits.model import DigitsNet
from examples.digits.strategies import Task, learn


def train(net: DigitsNet, options: Options, folder: Path) -> tuple[int, dict[str, float]]:
    samples = read_images(folder / "train.npz")
    make_repeatable(options.seed, options.round, folder.name)
    loss_before = evaluate(net, samples).loss
    tensors, loss = learn(net, samples, options, Task.of_environment(options.round))
    save_file(tensors, os.environ["WARREN_UPDATE_OUT"])
    return len(samples.labels), {"train_loss": loss, "loss": loss_before}


def test(net: DigitsNet, options: Options, folder: Path) -> tuple[int, dict[str, float]]:
    samples = read_images(folder / "test.npz")
    make_repeatable(options.seed, options.round, folder.name)
    return len(samples.labels), evaluate(net, samples)._asdict()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=["train", "test"])
    parser.add_argument("--training-id", required=True)
    parser.add_argument("--round", type=int, required=True)
    parser.add_argument("--model-id", required=True)
    asked = parser.parse_args()

    config = json.loads(Path(os.environ["WARREN_CONFIG"]).read_text())
    options = Options.chosen_by(config | {"round": asked.round})
    net = DigitsNet()
    net.load_state_dict(load_file(os.environ["WARREN_MODEL_IN"]))

    act = {"train": train, "test": test}[asked.action]
    num_examples, metrics = act(net, options, Path(os.environ["DIGITS_DATA"]))
    answer = {"num_examples": num_examples, "metrics": metrics}
    Path(os.environ["WARREN_RESULT_OUT"]).write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
