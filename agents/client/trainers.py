"""Runs the user's trainer class in one warm child process per training."""

import asyncio
import sys
from pathlib import Path

from agents.client.children import Helper, start
from agents.client.runner import Assignment, options
from agents.client.scripts import UserCode
from agents.client.training import Order
from schemas.commands import TrainRound
from schemas.ids import TrainingId


class TrainerRunner:
    """The class is made once per training and then called task by task.

    A child that crashed, was cancelled or overran its deadline is replaced by a new one at the next task.
    """

    def __init__(self, trainer: str, how: UserCode) -> None:
        self._trainer, self._how = trainer, how
        self._children: dict[TrainingId, Helper] = {}
        self._turns: dict[TrainingId, asyncio.Lock] = {}

    async def run(self, assignment: Assignment) -> int:
        training_id = assignment.order.training_id
        async with self._turns.setdefault(training_id, asyncio.Lock()):
            child = await self._child_of(training_id, assignment.state)
            try:
                await child.tell(**_request(assignment))
                answer = await child.answer()
            except asyncio.CancelledError:
                await self._end(training_id)
                raise
            return answer["code"] if answer else await child.code() or 1

    async def forget(self, training_id: TrainingId) -> None:
        await self._end(training_id)
        self._turns.pop(training_id, None)

    async def close(self) -> None:
        for training_id in tuple(self._children):
            await self._end(training_id)

    async def _child_of(self, training_id: TrainingId, state: Path) -> Helper:
        child = self._children.get(training_id)
        if child is None or child.has_ended:
            env = {**self._how.env, "WARREN_STATE_DIR": str(state)}
            # -P: the working folder is put on the path only after our own packages are imported
            command = (sys.executable, "-P", "-m", "agents.client.trainer_child", self._trainer)
            child = self._children[training_id] = Helper(await start(command, env=env, cwd=self._how.cwd))
        return child

    async def _end(self, training_id: TrainingId) -> None:
        if child := self._children.pop(training_id, None):
            await child.end(self._how.patience_s)


def _request(assignment: Assignment) -> dict[str, object]:
    return {
        "action": assignment.action,
        "config": options(assignment.order),
        "task": _task(assignment.order),
        "state_dir": str(assignment.state),
        "model": str(assignment.model),
        "state_in": str(assignment.state_in) if assignment.state_in else None,
        "update": str(assignment.update),
        "result": str(assignment.result),
        "output": str(assignment.output),
    }


def _task(order: Order) -> dict[str, object]:
    """As the child's `Task` has it; an evaluation has none."""
    if not isinstance(order, TrainRound):
        return {}
    return {
        "training_id": str(order.training_id),
        "model_id": str(order.model.model_id),
        "round": order.round,
        "update_kind": order.update,
        "partial": order.partial,
        "extra": order.extra,
    }
