"""Sites that train in turn, and rounds that are combined over files, by the code that workers run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from examples.digits.data import Rows, Samples, load_digits, split
from examples.digits.learning import Batch, Options, evaluate, fit, make_repeatable
from examples.digits.model import DigitsNet, initial_model
from examples.robustness.attacks import Attack, Tensors
from schemas.offline import OfflineRound, OfflineUpdate
from services.aggregator.offline.over_files import run

ALPHA = 5.0  # sites differ, but each has some of every digit


@dataclass(frozen=True)
class Rule:
    """How a round is combined."""

    strategy: str
    options: Mapping[str, Any] = field(default_factory=dict)
    norm_clip: float | None = None

    def __str__(self) -> str:
        told = {**self.options, **({"norm_clip": self.norm_clip} if self.norm_clip else {})}
        return " ".join((self.strategy, *(f"{name}={value}" for name, value in told.items())))


@dataclass(frozen=True)
class Federation:
    """`sites` hold the training images; the last of them is the one that may send garbage."""

    sites: Mapping[str, Batch]
    heldout: Batch
    seed: int
    folder: Path

    def accuracy(self, rule: Rule, attack: Attack, rounds: int) -> float:
        """Of the model after so many rounds, on images that nobody has trained on."""
        model = self.folder / "model.safetensors"
        save_file(initial_model(self.seed).state_dict(), model)
        for round_ in range(rounds):
            updates = self._updates(load_file(model), attack, round_)
            asked = OfflineRound(
                strategy=rule.strategy,
                options=dict(rule.options),
                norm_clip=rule.norm_clip,
                current=str(model),
                updates=updates,
                out=str(model),
                round=round_,
            )
            run(asked)
        return self._tested(load_file(model))

    def _updates(self, model: Tensors, attack: Attack, round_: int) -> tuple[OfflineUpdate, ...]:
        *_, last = self.sites
        found = []
        for name, samples in self.sites.items():
            trained = self._trained(model, name, round_)
            file = self.folder / f"{name}.safetensors"
            save_file(attack(model, trained) if name == last else trained, file)
            found.append(OfflineUpdate(file=str(file), num_examples=len(samples.labels), client=name))
        return tuple(found)

    def _trained(self, model: Tensors, site: str, round_: int) -> Tensors:
        net = DigitsNet()
        net.load_state_dict(model)
        make_repeatable(self.seed, round_, site)
        fit(net, self.sites[site], Options())
        return net.state_dict()

    def _tested(self, model: Tensors) -> float:
        net = DigitsNet()
        net.load_state_dict(model)
        make_repeatable(self.seed, "test")
        return evaluate(net, self.heldout).accuracy


def federation(sites: int, seed: int, folder: Path) -> Federation:
    samples = load_digits()
    names = tuple(f"site-{number}" for number in range(1, sites + 1))
    parts = split(samples.labels, names, seed=seed, alpha=ALPHA)
    held = {name: _batch(samples, rows) for name, rows in parts.train.items()}
    return Federation(held, _batch(samples, parts.heldout), seed, folder)


def _batch(samples: Samples, rows: Rows) -> Batch:
    images = torch.from_numpy(samples.images[rows]).to(torch.float32).div(16).unsqueeze(1)
    return Batch(images=images, labels=torch.from_numpy(samples.labels[rows]))
