"""The child that makes the user's trainer and calls it: `python -m agents.client.trainer_child MODULE:CLASS`.

Reads a line of JSON per task and answers with {"code"}.  Has no credentials and no broker, and imports torch
only if the user's module does.
"""

import importlib
import inspect
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from agents.client.tensors import load, save

Tensors = dict[str, Any]  # torch tensors or numpy arrays, as the user's module prefers
Options = Mapping[str, Any]  # parsed JSON
_Kind = TypeVar("_Kind")


class Trainer(Protocol):
    """What a trainer class offers.  Made without arguments, once per training.

    `train(weights, config)` may have a third parameter `task`, and is then given a `Task`.
    """

    @property
    def train(self) -> Callable[..., tuple[Tensors, int, dict[str, float]]]: ...

    def test(self, weights: Tensors, config: Options) -> tuple[int, dict[str, float]]: ...


@dataclass(frozen=True, slots=True)
class Task:
    """What `train` is told beside its options, and how the update is to look."""

    training_id: str
    model_id: str
    round: int
    state_dir: Path  # of the trainer's own, kept for the whole training
    update_kind: str  # "weights", or "delta": their difference from the weights that were given
    partial: bool  # whether some of the tensors are enough
    extra: str | None  # "control" or "second_moment": tensors `<extra>/<name>` are wanted too
    state: Tensors | None  # of the strategy, by the names of the model's tensors; None: all zero


@dataclass(frozen=True, slots=True)
class Request:
    action: str
    config: dict[str, Any]  # parsed JSON
    task: dict[str, Any]  # of `Task`, but for what follows
    state_dir: str
    model: str
    state_in: str | None
    update: str
    result: str
    output: str


def main() -> None:
    name = sys.argv[1]
    sys.path.insert(0, os.getcwd())
    trainer: Trainer | None = None
    with os.fdopen(os.dup(0)) as requests, os.fdopen(os.dup(1), "w") as answers:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        _say_to(os.devnull)
        while line := requests.readline():
            request = Request(**json.loads(line))
            _say_to(request.output)
            code = 0
            try:
                trainer = trainer or _made(name)
                _carry_out(trainer, request)
            except SystemExit as leaving:
                code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
            except Exception:  # whatever user code raises is its own failure, told by its output
                traceback.print_exc()
                code = 1
            sys.stdout.flush()
            answers.write(json.dumps({"code": code}) + "\n")
            answers.flush()


def _made(name: str) -> Trainer:
    module, _, kind = name.partition(":")
    made: Trainer = getattr(importlib.import_module(module), kind)()
    return made


def _carry_out(trainer: Trainer, request: Request) -> None:
    weights = load(Path(request.model))
    if request.action == "train":
        changed, num_examples, metrics = trainer.train(weights, request.config, **_task(trainer, request))
        save(changed, Path(request.update))
    else:
        num_examples, metrics = trainer.test(weights, request.config)
    answer = {"num_examples": num_examples, "metrics": metrics}
    Path(request.result).write_text(json.dumps(answer, default=_plain))


def _task(trainer: Trainer, request: Request) -> dict[str, Task]:
    if "task" not in inspect.signature(trainer.train).parameters:
        return {}
    state = load(Path(request.state_in)) if request.state_in else None
    return {"task": Task(**request.task, state_dir=Path(request.state_dir), state=state)}


def _plain(number: Any) -> Any:  # numpy and torch scalars
    if hasattr(number, "item"):
        return number.item()
    raise TypeError(f"{type(number).__name__} is not a number")


def _say_to(path: str) -> None:
    """What the user code prints goes there, and cannot be taken for an answer of ours."""
    sys.stdout.flush()
    said = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(said, 1)
    os.dup2(said, 2)
    os.close(said)


if __name__ == "__main__":
    main()
