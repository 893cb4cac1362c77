"""Carries every task through its steps, and writes each to the journal before the next."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from typing import assert_never

from agents.client import training
from agents.client.store import Journal
from agents.client.training import Action, Order, Situation, Step, Task
from agents.client.transfer import TicketExpired
from agents.client.uplink import Uplink
from agents.client.work import Work
from schemas.commands import Access, TrainingEnded
from schemas.ids import TaskId
from schemas.refusal import Refusal
from schemas.words import Outcome

log = logging.getLogger(__name__)

_PAUSE_AFTER_FAULT_S = 5.0


class Tasks:
    """At most `parallel` tasks run user code at the same time; the others load, wait or report."""

    def __init__(
        self,
        journal: Journal,
        work: Work,
        uplink: Uplink,
        *,
        parallel: int = 1,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._journal, self._work, self._uplink, self._clock = journal, work, uplink, clock
        self._slots = asyncio.Semaphore(parallel)
        self._tickets: dict[TaskId, Access] = {}  # capabilities are kept in memory only
        self._renewed = asyncio.Condition()
        self._carried: dict[TaskId, asyncio.Task[None]] = {}
        self._idle: set[TaskId] = set()
        self._waiting: set[TaskId] = set()
        self._leaving = False

    @property
    def in_hand(self) -> tuple[TaskId, ...]:
        return tuple(self._carried)

    @property
    def waiting(self) -> tuple[TaskId, ...]:
        """Those that need fresh URLs."""
        return tuple(self._waiting)

    def resume(self) -> None:
        """Go on with what an earlier process left."""
        for task in self._journal.open_tasks():
            log.info("task was resumed", extra=_facts(task))
            self._carry_on(task.order.task_id)

    async def take(self, order: Order, refusal: str | None) -> None:
        """On disk when it returns.  Repeated, it renews the ticket; what was reported is reported again."""
        if self._journal.has_ended(order.training_id):
            return
        known = self._journal.get(order.task_id)
        task = training.ordered_again(known) if known else training.received(order, refusal)
        if task != known:
            self._keep(task)
        if task.is_open:
            await self._renew_ticket(order)
            self._carry_on(order.task_id)

    async def cancel(self, task_id: TaskId) -> None:
        await self._drop(task_id)
        task = self._journal.get(task_id)
        if task and task.is_open:
            self._keep(training.cancelled(task))
            self._clean_after(task_id)

    async def end_training(self, ended: TrainingEnded, *, keep_state: bool) -> None:
        for task in self._journal.open_tasks():
            if task.order.training_id == ended.training_id:
                await self._drop(task.order.task_id)
        await self._work.forget_training(ended.training_id, keep_state=keep_state)
        is_final = ended.outcome != Outcome.REMOVED  # who was removed may be added again
        for task_id in self._journal.end_training(ended.training_id, self._clock(), is_final=is_final):
            self._clean_after(task_id)

    async def leave(self, grace_s: float) -> None:
        """Finish what can be finished in time; the rest goes on at the next start, from its last step."""
        self._leaving = True
        for task_id in self._idle:
            self._carried[task_id].cancel()
        if self._carried:
            await asyncio.wait(self._carried.values(), timeout=grace_s)
        await asyncio.gather(*map(self._drop, self.in_hand))

    def _carry_on(self, task_id: TaskId) -> None:
        if task_id not in self._carried:
            self._carried[task_id] = asyncio.create_task(self._carry(task_id))

    async def _drop(self, task_id: TaskId) -> None:
        if carried := self._carried.get(task_id):
            carried.cancel()
            await asyncio.wait({carried})
            self._carried.pop(task_id, None)  # one that had not begun yet could not do it itself

    async def _carry(self, task_id: TaskId) -> None:
        try:
            while not await self._is_through(task_id):
                with self._idling(task_id):
                    await asyncio.sleep(_PAUSE_AFTER_FAULT_S)
        finally:
            del self._carried[task_id]
            self._tickets.pop(task_id, None)

    async def _is_through(self, task_id: TaskId) -> bool:
        """False after a fault: it must be tried again, from the last step on disk."""
        try:
            while (task := self._journal.get(task_id)) and task.is_open:
                advanced = await self._advanced(task)
                if advanced != task:
                    self._keep(advanced)
            self._clean_after(task_id)
        except Exception:  # a full disk, say: the task ends by its deadline at the latest, the agent lives on
            log.exception("task could not be carried on", extra={"task": str(task_id)})
            return False
        return True

    async def _advanced(self, task: Task) -> Task:
        needs_files = task.step in (Step.RECEIVED, Step.DOWNLOADED)
        situation = Situation(
            has_ticket=task.order.task_id in self._tickets,
            has_files=needs_files and await self._work.has_files(task),
            now=self._clock(),
        )
        action = training.next_action(task, situation)
        match action:
            case Action.DOWNLOAD | Action.RUN | Action.UPLOAD:
                return await self._in_time(task, action)
            case Action.REPORT:
                await self._uplink.report(training.report_of(task), training.report_id(task))
                return training.reported(task)
            case Action.AWAIT_TICKET | Action.REST:
                await self._wait(task, action)
                return task
            case Action.GIVE_UP:
                return training.gave_up(task)
            case Action.NOTHING:
                return task
            case _:
                assert_never(action)

    async def _in_time(self, task: Task, action: Action) -> Task:
        """What ran past the deadline is ended; a no is final for the task."""
        try:
            async with asyncio.timeout(self._seconds_until(task.order.deadline_at)) as limit:
                return await self._done(task, action)
        except TimeoutError:
            if not limit.expired():
                raise
            return training.failed(task, self._work.with_tail(task, f"{action} was ended by the deadline"))
        except TicketExpired:
            log.info("ticket was not valid any more", extra=_facts(task))
            self._tickets.pop(task.order.task_id, None)
            return task
        except Refusal as no:
            return training.failed(task, str(no))

    async def _done(self, task: Task, action: Action) -> Task:
        ticket = self._tickets.get(task.order.task_id)
        if action == Action.DOWNLOAD:
            return await self._work.download(task, ticket)
        if action == Action.UPLOAD:
            return await self._work.upload(task, ticket)
        async with self._slot(task.order.task_id):
            return await self._work.run(task, self._clock)

    async def _wait(self, task: Task, action: Action) -> None:
        task_id, seconds = task.order.task_id, self._seconds_until(training.wakes_at(task, action))
        with self._idling(task_id):
            if action == Action.REST:
                await asyncio.sleep(seconds)
                return
            log.info("task waits for a fresh ticket", extra=_facts(task))
            await self._wait_for_ticket(task_id, seconds)

    async def _wait_for_ticket(self, task_id: TaskId, seconds: float) -> None:
        self._waiting.add(task_id)
        try:
            with suppress(TimeoutError):  # the next look at the task finds that its deadline has passed
                async with asyncio.timeout(seconds), self._renewed:
                    await self._renewed.wait_for(lambda: task_id in self._tickets)
        finally:
            self._waiting.discard(task_id)

    async def _renew_ticket(self, order: Order) -> None:
        if order.access:
            async with self._renewed:
                self._tickets[order.task_id] = order.access
                self._renewed.notify_all()

    @asynccontextmanager
    async def _slot(self, task_id: TaskId) -> AsyncIterator[None]:
        with self._idling(task_id):
            await self._slots.acquire()
        try:
            yield
        finally:
            self._slots.release()

    @contextmanager
    def _idling(self, task_id: TaskId) -> Iterator[None]:
        """Nothing is lost when the task is stopped here, and it is when the agent leaves."""
        if self._leaving:
            raise asyncio.CancelledError
        self._idle.add(task_id)
        try:
            yield
        finally:
            self._idle.discard(task_id)

    def _keep(self, task: Task) -> None:
        self._journal.keep(task, self._clock())
        log.info("task advanced", extra=_facts(task))

    def _clean_after(self, task_id: TaskId) -> None:
        needed = {file.sha256 for task in self._journal.open_tasks() for file in task.files}
        self._work.clean_after(task_id, needed)

    def _seconds_until(self, when: datetime) -> float:
        return max(0.0, (when - self._clock()).total_seconds())


def _facts(task: Task) -> dict[str, str | int]:
    order = task.order
    return {
        "training": str(order.training_id),
        "task": str(order.task_id),
        "round": order.round,
        "on": order.type,
        "step": task.step,
    }
