"""Does one step of a task: fetch its files, run the user code, hand in the update."""

import asyncio
import logging
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import ClassVar

from agents.client import training
from agents.client.downloads import Downloads
from agents.client.results import BadResult, take_result, take_update
from agents.client.runner import DONE, TRY_LATER, Assignment, Runner, prepare, tail_of
from agents.client.training import File, Task
from agents.client.transfer import Transfer
from schemas.commands import Access, TrainRound
from schemas.ids import TaskId, TrainingId
from schemas.refusal import Refusal
from schemas.weights import StateRef

log = logging.getLogger(__name__)


class TaskIsLost(Refusal):
    code: ClassVar[str] = "task_is_lost"


class Work:
    """`data` holds a folder per task, until it is reported, and one per training for the user's state."""

    def __init__(self, data: Path, downloads: Downloads, transfer: Transfer, runner: Runner) -> None:
        self._data, self._downloads, self._transfer, self._runner = data, downloads, transfer, runner
        self._line = asyncio.Lock()  # one download at a time: tasks with the same files share it

    async def has_files(self, task: Task) -> bool:
        for file in task.files:
            if not await self._downloads.has(file):
                return False
        return True

    async def download(self, task: Task, ticket: Access | None) -> Task:
        """What is there already is not fetched again."""
        async with self._line:
            for file in task.files:
                if not await self._downloads.has(file):
                    await self._transfer.download(_url_of(file, ticket), file, self._downloads.path(file))
                    self._downloads.use(file)
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

    def clean_after(self, task_id: TaskId, files_needed: set[str]) -> None:
        shutil.rmtree(self._folder(task_id), ignore_errors=True)
        self._downloads.prune(files_needed)

    def assignment(self, task: Task) -> Assignment:
        order, state = task.order, training.state_of(task.order)
        return Assignment(
            order=order,
            model=self._downloads.path(order.model),
            state_in=self._downloads.path(state) if state else None,
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


def _url_of(file: File, ticket: Access | None) -> str:
    url = None
    if ticket is not None:
        url = ticket.state_url if isinstance(file, StateRef) else ticket.download_url
    if url is None:
        raise TaskIsLost(f"the order has no ticket to download {file.key}, and it is not in the data folder")
    return url
