"""Does one step of a task: fetch the model, run the user code, hand in the update."""

import asyncio
import logging
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import ClassVar

from agents.client import training
from agents.client.models import Models
from agents.client.results import BadResult, take_result, take_update
from agents.client.runner import DONE, TRY_LATER, Assignment, Runner, prepare, tail_of
from agents.client.training import Task
from agents.client.transfer import Transfer
from schemas.commands import Access, TrainRound
from schemas.ids import TaskId, TrainingId
from schemas.refusal import Refusal

log = logging.getLogger(__name__)


class TaskIsLost(Refusal):
    code: ClassVar[str] = "task_is_lost"


class Work:
    """`data` holds a folder per task, until it is reported, and one per training for the user's state."""

    def __init__(self, data: Path, models: Models, transfer: Transfer, runner: Runner) -> None:
        self._data, self._models, self._transfer, self._runner = data, models, transfer, runner
        self._line = asyncio.Lock()  # one download at a time: tasks with the same model share it

    async def has_model(self, task: Task) -> bool:
        return await self._models.has(task.order.model)

    async def download(self, task: Task, ticket: Access | None) -> Task:
        model = task.order.model
        async with self._line:
            if not await self._models.has(model):
                if ticket is None:
                    raise TaskIsLost("the model vanished from the site's data folder")
                await self._transfer.download(ticket.download_url, model, self._models.path(model))
                self._models.use(model)
        return training.downloaded(task)

    async def run(self, task: Task, clock: Callable[[], datetime]) -> Task:
        assignment = self.assignment(task)
        prepare(assignment)
        code = await self._runner.run(assignment)
        log.info("user code ended", extra={"training": str(task.order.training_id), "code": code})
        if code == TRY_LATER:
            return training.postponed(task, clock())
        if code != DONE:
            how = f"exit code {code}" if code > 0 else f"signal {-code}"
            return training.failed(task, self.with_tail(task, f"the user code ended with {how}"))
        try:
            result = take_result(assignment)
            is_training = isinstance(task.order, TrainRound)
            sha256 = await asyncio.to_thread(take_update, assignment) if is_training else None
        except BadResult as no:
            return training.failed(task, self.with_tail(task, str(no)))
        return training.finished(task, result, sha256)

    async def upload(self, task: Task, ticket: Access | None) -> Task:
        update = self.assignment(task).upload
        if ticket is None or ticket.upload_url is None:
            raise TaskIsLost("the order has no ticket to upload the update")
        if not update.is_file():
            raise TaskIsLost("the trained update vanished from the site's data folder")
        await self._transfer.upload(ticket.upload_url, ticket.upload_headers, update)
        return training.uploaded(task)

    async def forget_training(self, training_id: TrainingId, *, keep_state: bool) -> None:
        await self._runner.forget(training_id)
        if not keep_state:
            shutil.rmtree(self._state(training_id), ignore_errors=True)

    def clean_after(self, task_id: TaskId, models_needed: set[str]) -> None:
        shutil.rmtree(self._folder(task_id), ignore_errors=True)
        self._models.prune(models_needed)

    def assignment(self, task: Task) -> Assignment:
        order = task.order
        return Assignment(
            order=order,
            model=self._models.path(order.model),
            folder=self._folder(order.task_id),
            state=self._state(order.training_id),
        )

    def with_tail(self, task: Task, reason: str) -> str:
        tail = tail_of(self.assignment(task).output)
        return f"{reason}\n{tail}" if tail else reason

    def _folder(self, task_id: TaskId) -> Path:
        return self._data / "tasks" / str(task_id)

    def _state(self, training_id: TrainingId) -> Path:
        return self._data / "state" / str(training_id)
