"""Training and testing the digits model on one site's images: the same bits for the same seed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

MOMENTUM = 0.9

Correction = Callable[
    [Sequence[Tensor]], Sequence[Tensor]
]  # of the gradients, in the order of the parameters


@dataclass(frozen=True)
class Options:
    """What a plan may set for a round, and the number of the round."""

    round: int = 0
    seed: int = 7
    local_epochs: int = 3
    learning_rate: float = 0.05
    batch_size: int = 32
    mu: float = 0.0  # FedProx
    swag_samples: int = 1  # SWAG

    @classmethod
    def chosen_by(cls, config: Mapping[str, Any]) -> Options:  # Any: parsed JSON
        return cls(**{field.name: config[field.name] for field in fields(cls) if field.name in config})

    def steps(self, examples: int) -> int:
        return self.local_epochs * -(-examples // self.batch_size)


class Batch(NamedTuple):
    images: Tensor  # (n, 1, 8, 8), float32, 0..1
    labels: Tensor  # (n,), int64


class Score(NamedTuple):
    loss: float
    accuracy: float


def read_images(path: Path) -> Batch:
    with np.load(path) as file:
        images = torch.from_numpy(file["images"]).to(torch.float32).div(16).unsqueeze(1)
        return Batch(images=images, labels=torch.from_numpy(file["labels"]))


def make_repeatable(*names: object) -> None:
    """Makes what follows in this process depend on `names` alone.

    The debug mode is `use_deterministic_algorithms(True)` without the compiler which that imports: a second.
    """
    torch.set_num_threads(1)
    torch.set_deterministic_debug_mode("error")
    torch.manual_seed(int.from_bytes(hashlib.sha256(repr(names).encode()).digest()[:8]))


@dataclass(frozen=True)
class Descent:
    """What happens at each step; strategies may want something else."""

    momentum: float = MOMENTUM
    correct: Correction = lambda gradients: gradients
    after_step: Callable[[], None] = lambda: None


def fit(net: nn.Module, samples: Batch, options: Options, descent: Descent = Descent()) -> float:
    """Trains `net` in place; the mean loss over the last epoch.

    Momentum by hand: `torch.optim` imports the compiler too, which is ten times the training itself.
    """
    net.train()
    weights = list(net.parameters())
    velocities = [torch.zeros_like(weight) for weight in weights]
    total = 0.0
    for _ in range(options.local_epochs):
        total = 0.0
        for rows in torch.split(torch.randperm(len(samples.labels)), options.batch_size):
            loss = functional.cross_entropy(net(samples.images[rows]), samples.labels[rows])
            gradients = descent.correct(torch.autograd.grad(loss, weights))
            _descend(weights, velocities, gradients, options.learning_rate, descent.momentum)
            descent.after_step()
            total += loss.item() * len(rows)
    return total / len(samples.labels)


@torch.no_grad()
def evaluate(net: nn.Module, samples: Batch) -> Score:
    net.eval()
    scores = net(samples.images)
    correct = int((scores.argmax(dim=1) == samples.labels).sum())
    return Score(
        loss=functional.cross_entropy(scores, samples.labels).item(), accuracy=correct / len(samples.labels)
    )


@torch.no_grad()
def _descend(
    weights: list[nn.Parameter],
    velocities: list[Tensor],
    gradients: Sequence[Tensor],
    rate: float,
    momentum: float,
) -> None:
    for weight, velocity, gradient in zip(weights, velocities, gradients, strict=True):
        velocity.mul_(momentum).add_(gradient)
        weight.sub_(velocity, alpha=rate)
