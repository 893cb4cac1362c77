from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from agents.client.downloads import Downloads
from agents.client.handlers import Commands, NotForUs, settle
from agents.client.policy import Policy
from agents.client.presence import heartbeat
from agents.client.runner import FunctionRunner
from agents.client.store import MemoryJournal
from agents.client.tasks import Tasks
from agents.client.training import Step
from agents.client.transfer import MemoryTransfer
from agents.client.uplink import MemoryUplink
from agents.client.work import Work
from infra.broker.delivery import Delivery
from schemas.commands import CancelTask, TrainingEnded
from schemas.envelope import Malformed, enclose, encode
from schemas.ids import ClientId, MessageId, TaskId
from schemas.message import Message
from schemas.words import Outcome
from tests.unit.client.builders import MODEL_BYTES, SITE, TRAINING, soon, to_train
from tests.unit.client.test_tasks import well


def body(message: Message) -> bytes:
    return encode(enclose(message, id=MessageId(uuid4()), source="scheduler", time=datetime.now(UTC)))


def delivered(content: bytes) -> Delivery:
    return Delivery("client.x", content, "m1", "X", "scheduler", "scheduler", str(SITE), 0, False, 1)


@pytest.fixture
def journal() -> MemoryJournal:
    return MemoryJournal()


@pytest.fixture
def commands(journal: MemoryJournal, tmp_path: Path) -> Commands:
    work = Work(
        tmp_path, Downloads(tmp_path / "downloads"), MemoryTransfer(MODEL_BYTES), FunctionRunner(well)
    )
    return Commands(SITE, Tasks(journal, work, MemoryUplink()), Policy())


async def test_an_order_is_on_disk_when_it_is_obeyed(commands: Commands, journal: MemoryJournal) -> None:
    order = to_train(deadline=soon())
    await commands.obey(body(order))
    assert journal.get(order.task_id)


async def test_a_cancelled_task_is_closed(commands: Commands, journal: MemoryJournal) -> None:
    order = to_train(deadline=soon())
    await commands.obey(body(order))
    cancel = CancelTask(training_id=TRAINING, task_id=order.task_id, client_id=SITE, round=4, reason="enough")
    await commands.obey(body(cancel))
    task = journal.get(order.task_id)
    assert task
    assert task.step == Step.CANCELLED


async def test_cancelling_what_is_unknown_is_no_fault(commands: Commands) -> None:
    cancel = CancelTask(
        training_id=TRAINING, task_id=TaskId(uuid4()), client_id=SITE, round=4, reason="enough"
    )
    await commands.obey(body(cancel))


async def test_the_end_of_a_training_is_remembered(commands: Commands, journal: MemoryJournal) -> None:
    await commands.obey(body(TrainingEnded(training_id=TRAINING, client_id=SITE, outcome=Outcome.COMPLETED)))
    assert journal.has_ended(TRAINING)


@pytest.mark.parametrize("message", [b"", b"{}", b"\xff", b"x" * 2_000_000])
async def test_what_is_no_command_is_refused(commands: Commands, message: bytes) -> None:
    with pytest.raises(Malformed):
        await commands.obey(message)


async def test_a_report_is_no_command(commands: Commands) -> None:
    with pytest.raises(Malformed):
        await commands.obey(body(heartbeat(SITE)))


async def test_a_command_for_somebody_else_is_refused(commands: Commands, journal: MemoryJournal) -> None:
    order = to_train(deadline=soon()).model_copy(update={"client_id": ClientId(uuid4())})
    with pytest.raises(NotForUs):
        await commands.obey(body(order))
    assert journal.get(order.task_id) is None


async def test_what_is_refused_becomes_a_dead_letter_that_says_why(commands: Commands) -> None:
    uplink, garbage = MemoryUplink(), delivered(b"garbage")
    await settle(commands, uplink, garbage)
    ((refused, reason),) = uplink.refused
    assert refused is garbage
    assert reason.startswith("malformed: message: Invalid JSON")


async def test_what_is_obeyed_is_not_sent_back(commands: Commands, journal: MemoryJournal) -> None:
    uplink, order = MemoryUplink(), to_train(deadline=soon())
    await settle(commands, uplink, delivered(body(order)))
    assert (uplink.refused, journal.get(order.task_id) is not None) == ([], True)
