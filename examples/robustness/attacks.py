"""What a site may send that is well-formed, finite, and no honest update."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Tensors = dict[str, Tensor]
Attack = Callable[[Tensors, Tensors], Tensors]  # of the model it was given, and what it has trained

NOISE = 10.0  # standard deviation; honest weights are below 1
FLIPPED = 5.0  # so many times its own way, and back


def honest(model: Tensors, trained: Tensors) -> Tensors:
    return trained


def noise(model: Tensors, trained: Tensors) -> Tensors:
    """As from a broken machine: what it has learned is drowned."""
    return trained | {
        name: tensor + NOISE * torch.randn_like(tensor) for name, tensor in _floats(trained).items()
    }


def flipped(model: Tensors, trained: Tensors) -> Tensors:
    """As from an enemy: away from where its data, and everybody's, point to."""
    return trained | {
        name: model[name] - FLIPPED * (tensor - model[name]) for name, tensor in _floats(trained).items()
    }


ATTACKS: dict[str, Attack] = {"nobody": honest, "noise": noise, "flipped": flipped}


def _floats(tensors: Tensors) -> Tensors:
    return {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
