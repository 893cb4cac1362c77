"""The digits site as a trainer class: `--trainer examples.digits.trainer:DigitsTrainer`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from examples.digits.learning import Options, evaluate, make_repeatable, read_images
from examples.digits.model import DigitsNet
from examples.digits.strategies import Task, learn


class DigitsTrainer:
    """Made once per training, without arguments; then called task by task."""

    def __init__(self) -> None:
        folder = Path(os.environ["DIGITS_DATA"])
        self._site = folder.name
        self._train = read_images(folder / "train.npz")
        self._test = read_images(folder / "test.npz")

    def train(
        self, weights: dict[str, Tensor], config: Mapping[str, Any], task: Task
    ) -> tuple[dict[str, Tensor], int, dict[str, float]]:
        """The update, the number of examples they were trained on, and metrics."""
        options = Options.chosen_by(config)
        net = DigitsNet()
        net.load_state_dict(weights)
        make_repeatable(options.seed, options.round, self._site)
        loss_before = evaluate(net, self._train).loss
        tensors, loss = learn(net, self._train, options, task)
        return tensors, len(self._train.labels), {"train_loss": loss, "loss": loss_before}

    def test(self, weights: dict[str, Tensor], config: Mapping[str, Any]) -> tuple[int, dict[str, float]]:
        """The number of examples tested on, and metrics."""
        options = Options.chosen_by(config)
        net = DigitsNet()
        net.load_state_dict(weights)
        make_repeatable(options.seed, options.round, self._site)
        return len(self._test.labels), evaluate(net, self._test)._asdict()
