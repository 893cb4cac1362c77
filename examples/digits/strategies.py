"""What strategies other than FedAvg may ask of a site: FedProx, SCAFFOLD, SWAG, and updates as deltas."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from examples.digits.learning import Batch, Descent, Options, fit

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Task:
    """How the update is to look.  A script reads it from its environment, a class is given it as `task`."""

    round: int
    state_dir: Path  # this site's own
    update_kind: str = "weights"
    extra: str | None = None
    state: Mapping[str, Tensor] | None = None  # everybody's, from the aggregator; None: all zero

    @classmethod
    def of_environment(cls, round_: int) -> Task:
        state = os.environ.get("WARREN_STATE_IN")
        return cls(
            round=round_,
            state_dir=Path(os.environ["WARREN_STATE_DIR"]),
            update_kind=os.environ.get("WARREN_UPDATE_KIND", "weights"),
            extra=os.environ.get("WARREN_EXTRA"),
            state=load_file(state) if state else None,
        )


def learn(net: nn.Module, samples: Batch, options: Options, task: Task) -> tuple[Tensors, float]:
    """The tensors of the update, and the training loss."""
    given = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    match task.extra:
        case None:
            loss = fit(net, samples, options, proximal(net, options.mu) if options.mu else Descent())
            tensors = net.state_dict()
        case "control":
            tensors, loss = with_control(net, samples, options, task)
        case "second_moment":
            tensors, loss = with_second_moment(net, samples, options)
        case other:
            raise ValueError(f"this site knows no extra tensors called {other!r}")
    if task.update_kind == "delta":
        tensors = {**tensors, **difference(tensors, given)}
    return tensors, loss


def difference(after: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> Tensors:
    """Integers wrap around; of booleans, whether it has changed.  Extra tensors are none of it."""
    return {
        name: after[name] ^ tensor if tensor.dtype == torch.bool else after[name] - tensor
        for name, tensor in before.items()
    }


def proximal(net: nn.Module, mu: float) -> Descent:
    """FedProx: the gradient of mu/2 * |w - w_given|^2 on top.

    Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020.
    """
    weights = list(net.parameters())
    given = [weight.detach().clone() for weight in weights]

    @torch.no_grad()
    def correct(gradients: Sequence[Tensor]) -> Sequence[Tensor]:
        return [g + mu * (w - w0) for g, w, w0 in zip(gradients, weights, given, strict=True)]

    return Descent(correct=correct)


def with_control(net: nn.Module, samples: Batch, options: Options, task: Task) -> tuple[Tensors, float]:
    """SCAFFOLD: each step is -lr * (gradient - own control + everybody's control), without momentum.

    `control/<name>` is the change of this site's own control, option II: what x - y of its `steps` steps
    says their mean gradient was, minus everybody's control.  Buffers have no gradient: zero.

    Karimireddy et al., "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning", ICML 2020.
    """
    weights = dict(net.named_parameters())
    given = {name: weight.detach().clone() for name, weight in weights.items()}
    zeros = {name: torch.zeros_like(weight) for name, weight in given.items()}
    own, all_of_us = zeros | own_control(task), zeros | dict(task.state or {})

    def correct(gradients: Sequence[Tensor]) -> Sequence[Tensor]:
        return [g - own[name] + all_of_us[name] for name, g in zip(weights, gradients, strict=True)]

    loss = fit(net, samples, options, Descent(momentum=0.0, correct=correct))
    moved = options.steps(len(samples.labels)) * options.learning_rate
    change = {name: (given[name] - w.detach()) / moved - all_of_us[name] for name, w in weights.items()}
    keep_own_control(task, {name: own[name] + change[name] for name in weights})
    return net.state_dict() | beside("control", zeros_for(net) | change), loss


def with_second_moment(net: nn.Module, samples: Batch, options: Options) -> tuple[Tensors, float]:
    """SWAG: means of the weights and, as `second_moment/<name>`, of their squares, evenly along the way.

    Maddox et al., "A Simple Baseline for Bayesian Uncertainty in Deep Learning", NeurIPS 2019.
    """
    steps, wanted = options.steps(len(samples.labels)), options.swag_samples
    points = {steps * (number + 1) // wanted for number in range(wanted)} - {0}
    first, second = zeros_for(net, torch.float64), zeros_for(net, torch.float64)
    step = 0

    def look() -> None:
        nonlocal step
        step += 1
        if step in points:
            for name, tensor in floats_of(net).items():
                first[name] += tensor.double()
                second[name] += tensor.double() ** 2

    loss = fit(net, samples, options, Descent(after_step=look))
    means, squares = (
        {name: (moment[name] / len(points)).to(tensor.dtype) for name, tensor in floats_of(net).items()}
        for moment in (first, second)
    )
    return net.state_dict() | means | beside("second_moment", squares), loss


def own_control(task: Task) -> Tensors:
    """As the last round before this one left it: a round that is run again starts from the same."""
    kept = _kept_before(task)
    return load_file(kept[-1]) if kept else {}


def keep_own_control(task: Task, control: Tensors) -> None:
    outdated = _kept_before(task)[:-1]
    part = task.state_dir / "control.part"
    save_file(control, part)
    part.replace(task.state_dir / f"control-{task.round:07}.safetensors")  # whole, or not at all
    for path in outdated:
        path.unlink()


def beside(extra: str, tensors: Tensors) -> Tensors:
    return {f"{extra}/{name}": tensor for name, tensor in tensors.items()}


def floats_of(net: nn.Module) -> Tensors:
    return {name: tensor for name, tensor in net.state_dict().items() if tensor.is_floating_point()}


def zeros_for(net: nn.Module, dtype: torch.dtype | None = None) -> Tensors:
    return {name: torch.zeros_like(tensor, dtype=dtype) for name, tensor in floats_of(net).items()}


def _kept_before(task: Task) -> list[Path]:
    kept = sorted(task.state_dir.glob("control-*.safetensors"))
    return [path for path in kept if path.stem < f"control-{task.round:07}"]
