"""The contract with the user code: where a task's files lie, and who runs it."""

import json
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agents.client.training import Order
from schemas.commands import TrainRound
from schemas.ids import TrainingId

DONE = 0
TRY_LATER = 75  # EX_TEMPFAIL

_TAIL = 2_000


@dataclass(frozen=True, slots=True)
class Assignment:
    """One task as the user code sees it: files in a folder of its own, and a state folder per training."""

    order: Order
    model: Path
    folder: Path
    state: Path
    state_in: Path | None = None  # the strategy's, if the order has one

    @property
    def action(self) -> str:
        return "train" if isinstance(self.order, TrainRound) else "test"

    @property
    def update(self) -> Path:
        """What the user code writes; the agent makes it canonical as `upload`."""
        return self.folder / "update.safetensors"

    @property
    def upload(self) -> Path:
        return self.folder / "upload.safetensors"

    @property
    def result(self) -> Path:
        return self.folder / "result.json"

    @property
    def config(self) -> Path:
        return self.folder / "config.json"

    @property
    def output(self) -> Path:
        return self.folder / "output.log"


class Runner(Protocol):
    async def run(self, assignment: Assignment) -> int:
        """The exit code, negative for a signal.  Cancelled, it ends every process of the task first."""
        ...

    async def forget(self, training_id: TrainingId) -> None:
        """The training has ended: let go of what is kept warm for it."""
        ...

    async def close(self) -> None: ...


class FunctionRunner:
    """The in-memory twin: the user code is a coroutine function."""

    def __init__(self, code: Callable[[Assignment], Awaitable[int]]) -> None:
        self._code = code

    async def run(self, assignment: Assignment) -> int:
        return await self._code(assignment)

    async def forget(self, training_id: TrainingId) -> None:
        pass

    async def close(self) -> None:
        pass


def prepare(assignment: Assignment) -> None:
    """An empty folder but for the round's options; nothing of an interrupted run is left."""
    shutil.rmtree(assignment.folder, ignore_errors=True)
    assignment.folder.mkdir(parents=True)
    assignment.state.mkdir(parents=True, exist_ok=True)
    assignment.config.write_text(json.dumps(options(assignment.order)))


def options(order: Order) -> dict[str, object]:
    """What the plan says to the user code, and the round."""
    return {**order.config, "round": order.round}


def arguments(assignment: Assignment) -> tuple[str, ...]:
    order = assignment.order
    named = {"--training-id": order.training_id, "--round": order.round, "--model-id": order.model.model_id}
    return (assignment.action, *(str(word) for pair in named.items() for word in pair))


def environment(assignment: Assignment) -> dict[str, str]:
    """What does not apply to the task is not set."""
    return {
        "WARREN_MODEL_IN": str(assignment.model),
        "WARREN_UPDATE_OUT": str(assignment.update),
        "WARREN_RESULT_OUT": str(assignment.result),
        "WARREN_CONFIG": str(assignment.config),
        "WARREN_STATE_DIR": str(assignment.state),
        **_wishes(assignment.order),
        **({"WARREN_STATE_IN": str(assignment.state_in)} if assignment.state_in else {}),
    }


def _wishes(order: Order) -> dict[str, str]:
    """How the update is to look."""
    if not isinstance(order, TrainRound):
        return {}
    return {
        "WARREN_UPDATE_KIND": order.update,
        **({"WARREN_PARTIAL": "1"} if order.partial else {}),
        **({"WARREN_EXTRA": order.extra} if order.extra else {}),
    }


def tail_of(output: Path) -> str:
    """The last characters the user code said, control characters escaped; "" if it said nothing."""
    try:
        with output.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - 4 * _TAIL))
            said = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "".join(map(_printable, said))[-_TAIL:].strip()


def _printable(character: str) -> str:
    if character == "\n" or character.isprintable():
        return character
    return character.encode("unicode_escape").decode()
