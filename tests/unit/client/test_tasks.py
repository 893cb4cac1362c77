# ruff: noqa: ASYNC110, ASYNC240 -- tests may look at the disk, and wait by looking
import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from safetensors.numpy import save

from agents.client.downloads import Downloads
from agents.client.runner import Assignment, FunctionRunner
from agents.client.store import MemoryJournal
from agents.client.tasks import Tasks
from agents.client.training import File, Order, Report, Step
from agents.client.transfer import MemoryTransfer, TicketExpired
from agents.client.uplink import MemoryUplink
from agents.client.work import Work
from schemas.commands import Access, TrainingEnded
from schemas.ids import TaskId
from schemas.reports import ClientRejected, MetricsReported, ModelUploaded, TaskFailed
from schemas.words import Extra, Outcome
from tests.unit.client.builders import (
    CONTROL_BYTES,
    MODEL_BYTES,
    SITE,
    TRAINING,
    WEIGHTS,
    a_ref,
    a_state,
    a_ticket,
    soon,
    to_evaluate,
    to_train,
)


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
    transfer: MemoryTransfer = field(default_factory=lambda: MemoryTransfer(MODEL_BYTES, CONTROL_BYTES))
    runs: int = 0
    started: list[Tasks] = field(default_factory=list)

    def start(self, parallel: int = 1) -> Tasks:
        async def counted(assignment: Assignment) -> int:
            self.runs += 1
            return await self.code(assignment)

        work = Work(self.data, Downloads(self.data / "downloads"), self.transfer, FunctionRunner(counted))
        tasks = Tasks(self.journal, work, self.uplink, parallel=parallel)
        self.started.append(tasks)
        return tasks

    @property
    def said(self) -> list[Report]:
        return [report for _, report in self.uplink.reports]


class HeldUp(MemoryTransfer):
    """What `hold` names never comes, and `stale` has expired."""

    async def download(self, url: str, file: File, destination: Path) -> None:
        if url == "stale":
            raise TicketExpired(403)
        if url == "hold":
            await asyncio.Event().wait()
        await super().download(url, file, destination)


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
    assert (site.transfer.downloads, site.runs) == (["memory:/model"], 4)


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


def with_state(access: Access | None = None) -> Order:
    return to_train(access=access, deadline=soon(3600), state=a_state())


async def test_the_strategys_state_is_there_beside_the_model_when_the_user_code_runs(site: Site) -> None:
    seen: list[bytes] = []

    async def look(assignment: Assignment) -> int:
        assert assignment.state_in
        seen.extend(path.read_bytes() for path in (assignment.model, assignment.state_in))
        return await well(assignment)

    site.code = look
    tasks = site.start()
    await tasks.take(with_state(a_ticket(state_url="memory:/state")), None)
    await until_idle(tasks)
    assert seen == [MODEL_BYTES, CONTROL_BYTES]
    assert site.transfer.downloads == ["memory:/model", "memory:/state"]
    assert isinstance(site.said[0], ModelUploaded)


async def test_tasks_with_the_same_state_share_one_download_of_it(site: Site) -> None:
    tasks = site.start(parallel=3)
    for _ in range(3):
        await tasks.take(with_state(a_ticket(state_url="memory:/state")), None)
    await until_idle(tasks)
    assert (len(site.transfer.downloads), site.runs) == (2, 3)


async def test_stopped_between_its_two_downloads_a_task_goes_on_with_the_second(site: Site) -> None:
    site.transfer = HeldUp(MODEL_BYTES, CONTROL_BYTES)
    order = with_state()
    await site.start().take(order.model_copy(update={"access": a_ticket(state_url="hold")}), None)
    await until(lambda: site.transfer.downloads == ["memory:/model"])
    assert _step(site, order.task_id) == Step.RECEIVED
    await site.started[0].leave(0)
    tasks = site.start()
    tasks.resume()
    await until(lambda: tasks.waiting == (order.task_id,))
    await tasks.take(order.model_copy(update={"access": a_ticket(state_url="memory:/state")}), None)
    await until_idle(tasks)
    assert site.transfer.downloads == ["memory:/model", "memory:/state"]
    assert (site.runs, type(site.said[0])) == (1, ModelUploaded)


async def test_a_url_of_the_state_that_expired_is_renewed_and_the_model_not_fetched_again(site: Site) -> None:
    site.transfer = HeldUp(MODEL_BYTES, CONTROL_BYTES)
    tasks, order = site.start(), with_state(a_ticket(state_url="stale"))
    await tasks.take(order, None)
    await until(lambda: tasks.waiting == (order.task_id,))
    await tasks.take(order.model_copy(update={"access": a_ticket(state_url="memory:/state")}), None)
    await until_idle(tasks)
    assert site.transfer.downloads == ["memory:/model", "memory:/state"]
    assert isinstance(site.said[0], ModelUploaded)


async def test_a_state_that_is_harmed_on_disk_is_fetched_again(site: Site) -> None:
    site.code = for_ever
    order = with_state(a_ticket(state_url="memory:/state"))
    await site.start().take(order, None)
    await until(lambda: site.runs)
    await site.started[0].leave(0)
    (site.data / "downloads" / f"{a_state().sha256}.safetensors").write_bytes(b"harmed")
    site.code = well
    tasks = site.start()
    await tasks.take(order, None)
    await until_idle(tasks)
    assert site.transfer.downloads == ["memory:/model", "memory:/state", "memory:/state"]
    assert isinstance(site.said[0], ModelUploaded)


async def test_an_order_whose_ticket_lacks_the_url_of_its_state_fails_with_the_reason(site: Site) -> None:
    tasks = site.start()
    await tasks.take(with_state(a_ticket()), None)
    await until_idle(tasks)
    assert isinstance(site.said[0], TaskFailed)
    assert f"no ticket to download {a_state().key}" in site.said[0].reason


async def test_what_the_store_sends_in_the_place_of_the_state_is_not_used(site: Site) -> None:
    site.transfer = MemoryTransfer(MODEL_BYTES)
    tasks = site.start()
    await tasks.take(with_state(a_ticket(state_url="memory:/state")), None)
    await until_idle(tasks)
    assert isinstance(site.said[0], TaskFailed)
    assert site.said[0].reason == f"what the store sent is not {a_state().key} with sha256 {a_state().sha256}"
    assert site.runs == 0


async def test_the_state_that_an_open_task_needs_is_not_swept_with_another_task(site: Site) -> None:
    site.transfer = HeldUp(MODEL_BYTES, CONTROL_BYTES)
    tasks, open_task = site.start(), with_state()
    folder = site.data / "downloads"
    await tasks.take(open_task, None)
    (folder / f"{a_state().sha256}.safetensors").write_bytes(CONTROL_BYTES)
    (folder / "0123.safetensors").touch()
    await tasks.take(in_an_hour(access=a_ticket()), None)
    await until(lambda: site.said)
    await until(lambda: not (folder / "0123.safetensors").exists())
    assert (folder / f"{a_state().sha256}.safetensors").exists()


async def test_a_chain_goes_on_with_another_clients_update_like_with_any_model(site: Site) -> None:
    theirs = save({**WEIGHTS, "bias": WEIGHTS["bias"] + 1})
    link = a_ref(theirs).model_copy(update={"key": "updates/x/3/y.safetensors"})
    site.transfer = MemoryTransfer(theirs)
    tasks = site.start()
    await tasks.take(to_train(access=a_ticket(), deadline=soon(3600), model=link), None)
    await until_idle(tasks)
    assert isinstance(site.said[0], ModelUploaded)


async def test_an_update_without_the_extra_tensors_fails_its_task_with_what_is_lacking(site: Site) -> None:
    tasks = site.start()
    await tasks.take(to_train(access=a_ticket(), deadline=soon(3600), extra=Extra.SECOND_MOMENT), None)
    await until_idle(tasks)
    assert isinstance(site.said[0], TaskFailed)
    assert site.said[0].reason == "the update lacks second_moment/bias and 1 more"


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
    assert len(site.transfer.downloads) == 1


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
