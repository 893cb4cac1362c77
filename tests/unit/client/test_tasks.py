# ruff: noqa: ASYNC110, ASYNC240 -- tests may look at the disk, and wait by looking
import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agents.client.models import Models
from agents.client.runner import Assignment, FunctionRunner
from agents.client.store import MemoryJournal
from agents.client.tasks import Tasks
from agents.client.training import Order, Report, Step
from agents.client.transfer import MemoryTransfer, TicketExpired
from agents.client.uplink import MemoryUplink
from agents.client.work import Work
from schemas.commands import Access, TrainingEnded
from schemas.ids import TaskId
from schemas.reports import ClientRejected, MetricsReported, ModelUploaded, TaskFailed
from schemas.words import Outcome
from tests.unit.client.builders import MODEL_BYTES, SITE, TRAINING, a_ticket, soon, to_evaluate, to_train


async def well(assignment: Assignment) -> int:
    assignment.result.write_text(json.dumps({"num_examples": 8, "metrics": {"loss": 0.1}}))
    assignment.update.write_bytes(MODEL_BYTES)
    return 0


async def for_ever(assignment: Assignment) -> int:
    assignment.output.write_text("still at it")
    await asyncio.Event().wait()
    return 0


@dataclass
class Site:
    """An agent without broker, store and processes."""

    data: Path
    code: Callable[[Assignment], Awaitable[int]] = well
    journal: MemoryJournal = field(default_factory=MemoryJournal)
    uplink: MemoryUplink = field(default_factory=MemoryUplink)
    transfer: MemoryTransfer = field(default_factory=lambda: MemoryTransfer(MODEL_BYTES))
    runs: int = 0
    started: list[Tasks] = field(default_factory=list)

    def start(self, parallel: int = 1) -> Tasks:
        async def counted(assignment: Assignment) -> int:
            self.runs += 1
            return await self.code(assignment)

        work = Work(self.data, Models(self.data / "models"), self.transfer, FunctionRunner(counted))
        tasks = Tasks(self.journal, work, self.uplink, parallel=parallel)
        self.started.append(tasks)
        return tasks

    @property
    def said(self) -> list[Report]:
        return [report for _, report in self.uplink.reports]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    site = Site(tmp_path)
    yield site
    for tasks in site.started:
        await tasks.leave(0)


async def until(claim: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not claim():
            await asyncio.sleep(0.002)


async def until_idle(tasks: Tasks) -> None:
    await until(lambda: not tasks.in_hand)


def in_an_hour(access: Access | None = None) -> Order:
    return to_train(access=access, deadline=soon(3600))


async def test_an_order_ends_in_a_report_and_leaves_no_files(site: Site) -> None:
    tasks, order = site.start(), in_an_hour(access=a_ticket())
    await tasks.take(order, None)
    await until_idle(tasks)
    assert isinstance(site.said[0], ModelUploaded)
    assert site.transfer.handed_in == [MODEL_BYTES]
    assert not list((site.data / "tasks").iterdir())
    task = site.journal.get(order.task_id)
    assert task
    assert task.step == Step.REPORTED


async def test_an_evaluation_ends_in_metrics(site: Site) -> None:
    tasks = site.start()
    await tasks.take(to_evaluate(a_ticket(), soon(60)), None)
    await until_idle(tasks)
    assert isinstance(site.said[0], MetricsReported)
    assert not site.transfer.handed_in


async def test_an_order_repeated_after_its_report_is_reported_again_and_not_run_again(site: Site) -> None:
    tasks, order = site.start(), in_an_hour(access=a_ticket())
    for _ in range(3):
        await tasks.take(order, None)
        await until_idle(tasks)
    assert site.runs == 1
    assert len(site.uplink.reports) == 3
    assert len(set(map(str, site.uplink.reports))) == 1


async def test_an_order_repeated_while_it_is_carried_out_changes_nothing(site: Site) -> None:
    tasks, order = site.start(), in_an_hour(access=a_ticket())
    for _ in range(5):
        await tasks.take(order, None)
    await until_idle(tasks)
    assert (site.runs, len(site.said)) == (1, 1)


async def test_tasks_with_the_same_model_share_one_download(site: Site) -> None:
    tasks = site.start(parallel=4)
    for _ in range(4):
        await tasks.take(in_an_hour(access=a_ticket()), None)
    await until_idle(tasks)
    assert (site.transfer.downloads, site.runs) == (1, 4)


async def test_one_task_at_a_time_runs_user_code_by_default(site: Site) -> None:
    site.code = for_ever
    tasks = site.start()
    for _ in range(2):
        await tasks.take(in_an_hour(access=a_ticket()), None)
    await until(lambda: site.runs)
    await asyncio.sleep(0.05)
    assert site.runs == 1
    assert len(tasks.in_hand) == 2


async def test_after_a_restart_a_task_without_urls_waits_for_the_repeated_order(site: Site) -> None:
    order = in_an_hour()
    await site.start().take(order, None)
    await site.started[0].leave(0)
    tasks = site.start()
    tasks.resume()
    await asyncio.sleep(0.02)
    assert not site.said
    await tasks.take(order.model_copy(update={"access": a_ticket()}), None)
    await until_idle(tasks)
    assert isinstance(site.said[0], ModelUploaded)


async def test_a_ticket_that_expired_during_training_is_renewed_and_the_training_is_not_repeated(
    site: Site,
) -> None:
    class Expiring(MemoryTransfer):
        async def upload(self, url: str, headers: object, source: Path) -> None:
            if not url.startswith("fresh"):
                raise TicketExpired(403)
            self.handed_in.append(source.read_bytes())

    site.transfer = Expiring(MODEL_BYTES)
    tasks, order = site.start(), in_an_hour(access=a_ticket("stale"))
    await tasks.take(order, None)
    await until(lambda: _step(site, order.task_id) == Step.TRAINED)
    await asyncio.sleep(0.02)
    await tasks.take(order.model_copy(update={"access": a_ticket("fresh")}), None)
    await until_idle(tasks)
    assert site.runs == 1
    assert isinstance(site.said[0], ModelUploaded)


async def test_user_code_that_runs_past_the_deadline_is_ended_and_reported_with_its_output(
    site: Site,
) -> None:
    site.code = for_ever
    tasks = site.start()
    await tasks.take(to_train(deadline=soon(0.1), access=a_ticket()), None)
    await until_idle(tasks)
    said = site.said[0]
    assert isinstance(said, TaskFailed)
    assert said.reason == "run was ended by the deadline\nstill at it"


async def test_failing_user_code_is_reported_with_how_it_ended(site: Site) -> None:
    async def crash(assignment: Assignment) -> int:
        assignment.output.write_text("Traceback")
        return 3

    site.code = crash
    tasks = site.start()
    await tasks.take(in_an_hour(access=a_ticket()), None)
    await until_idle(tasks)
    assert isinstance(site.said[0], TaskFailed)
    assert site.said[0].reason == "the user code ended with exit code 3\nTraceback"


async def test_user_code_that_leaves_nothing_is_reported_with_what_was_expected(site: Site) -> None:
    async def nothing(assignment: Assignment) -> int:
        return 0

    site.code = nothing
    tasks = site.start()
    await tasks.take(in_an_hour(access=a_ticket()), None)
    await until_idle(tasks)
    assert isinstance(site.said[0], TaskFailed)
    assert "WARREN_RESULT_OUT" in site.said[0].reason


async def test_user_code_that_asks_for_later_keeps_its_task(site: Site) -> None:
    async def later(assignment: Assignment) -> int:
        return 75

    site.code = later
    tasks, order = site.start(), in_an_hour(access=a_ticket())
    await tasks.take(order, None)
    await until(lambda: (task := site.journal.get(order.task_id)) and task.rests)
    assert _step(site, order.task_id) == Step.DOWNLOADED
    assert not site.said


async def test_a_cancelled_task_is_stopped_and_never_reported(site: Site) -> None:
    site.code = for_ever
    tasks, order = site.start(), in_an_hour(access=a_ticket())
    await tasks.take(order, None)
    await until(lambda: site.runs)
    await tasks.cancel(order.task_id)
    await tasks.take(order, None)
    assert not tasks.in_hand
    assert not site.said


async def test_a_task_can_be_cancelled_before_it_has_begun(site: Site) -> None:
    tasks, order = site.start(), in_an_hour(access=a_ticket())
    await tasks.take(order, None)
    await tasks.cancel(order.task_id)
    assert not tasks.in_hand
    assert site.runs == 0


async def test_a_training_that_ended_takes_its_tasks_along_and_late_orders_count_no_more(site: Site) -> None:
    site.code = for_ever
    tasks = site.start()
    await tasks.take(in_an_hour(access=a_ticket()), None)
    await until(lambda: site.runs)
    ended = TrainingEnded(training_id=TRAINING, client_id=SITE, outcome=Outcome.ABORTED)
    await tasks.end_training(ended, keep_state=False)
    await tasks.take(in_an_hour(access=a_ticket()), None)
    assert not tasks.in_hand
    assert not (site.data / "state" / str(TRAINING)).exists()


async def test_a_refused_training_is_answered_once_per_order(site: Site) -> None:
    tasks, order = site.start(), in_an_hour(access=a_ticket())
    await tasks.take(order, "not here")
    await until_idle(tasks)
    assert [type(said) for said in site.said] == [ClientRejected]
    assert site.runs == 0


async def test_leaving_lets_running_code_finish_and_report(site: Site) -> None:
    gate = asyncio.Event()

    async def when_told(assignment: Assignment) -> int:
        await gate.wait()
        return await well(assignment)

    site.code = when_told
    tasks = site.start()
    running, waiting = in_an_hour(access=a_ticket()), in_an_hour(access=a_ticket())
    await tasks.take(running, None)
    await until(lambda: site.runs)
    await tasks.take(waiting, None)
    await asyncio.sleep(0.02)
    leaving = asyncio.create_task(tasks.leave(5))
    await asyncio.sleep(0.02)
    gate.set()
    await leaving
    assert [_step(site, order.task_id) for order in (running, waiting)] == [Step.REPORTED, Step.DOWNLOADED]
    assert site.runs == 1


async def test_what_does_not_finish_in_time_is_ended_and_goes_on_at_the_next_start(site: Site) -> None:
    site.code = for_ever
    order = in_an_hour(access=a_ticket())
    await site.start().take(order, None)
    await until(lambda: site.runs)
    await site.started[0].leave(0.01)
    assert not site.said
    site.code = well
    tasks = site.start()
    tasks.resume()
    await until(lambda: _step(site, order.task_id) == Step.TRAINED)
    assert site.transfer.downloads == 1


async def test_a_fault_of_the_agent_does_not_lose_the_task(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = [OSError("disk full")]

    async def faulty(assignment: Assignment) -> int:
        if faults:
            raise faults.pop()
        return await well(assignment)

    monkeypatch.setattr("agents.client.tasks._PAUSE_AFTER_FAULT_S", 0.01)
    site.code = faulty
    tasks = site.start()
    await tasks.take(in_an_hour(access=a_ticket()), None)
    await until_idle(tasks)
    assert isinstance(site.said[0], ModelUploaded)


def _step(site: Site, task_id: TaskId) -> Step | None:
    task = site.journal.get(task_id)
    return task.step if task else None
