from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from agents.client import training
from agents.client.store import Journal, MemoryJournal, SqliteJournal
from schemas.ids import TrainingId
from tests.unit.client.builders import NOON, TRAINING, a_ticket, to_train

NIL = TrainingId(UUID(int=0))


@pytest.fixture(params=["memory", "sqlite"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Journal]:
    if request.param == "memory":
        yield MemoryJournal()
        return
    journal = SqliteJournal(tmp_path / "journal.db")
    yield journal
    journal.close()


def test_a_kept_task_is_found_as_it_was_kept_last(journal: Journal) -> None:
    task = training.received(to_train())
    journal.keep(task, NOON)
    journal.keep(training.downloaded(task), NOON)
    assert journal.get(task.order.task_id) == training.downloaded(task)


def test_an_unknown_task_is_nothing(journal: Journal) -> None:
    assert journal.get(to_train().task_id) is None


def test_open_tasks_are_listed_oldest_first_without_the_closed_ones(journal: Journal) -> None:
    old, new, done, gone = (training.received(to_train()) for _ in range(4))
    journal.keep(new, NOON + timedelta(seconds=2))
    journal.keep(old, NOON)
    journal.keep(training.cancelled(gone), NOON)
    journal.keep(training.reported(training.failed(done, "no")), NOON)
    assert journal.open_tasks() == (old, new)


def test_ending_a_training_forgets_its_tasks_and_names_them(journal: Journal) -> None:
    task, other = training.received(to_train()), training.received(to_train(training=TrainingId(NIL)))
    journal.keep(task, NOON)
    journal.keep(other, NOON)
    assert journal.end_training(TRAINING, NOON, is_final=True) == (task.order.task_id,)
    assert journal.open_tasks() == (other,)


def test_a_final_end_is_remembered_and_a_removal_is_not(journal: Journal) -> None:
    journal.end_training(TRAINING, NOON, is_final=False)
    assert not journal.has_ended(TRAINING)
    journal.end_training(TRAINING, NOON, is_final=True)
    journal.end_training(TRAINING, NOON, is_final=True)
    assert journal.has_ended(TRAINING)


def test_what_was_closed_long_ago_expires_and_open_tasks_never_do(journal: Journal) -> None:
    closed, still_open = training.reported(training.received(to_train())), training.received(to_train())
    journal.keep(closed, NOON)
    journal.keep(still_open, NOON)
    journal.end_training(TrainingId(NIL), NOON, is_final=True)
    journal.expire(NOON + timedelta(seconds=1))
    assert journal.get(closed.order.task_id) is None
    assert journal.open_tasks() == (still_open,)
    assert not journal.has_ended(TrainingId(NIL))


def test_a_journal_opened_again_knows_everything(tmp_path: Path) -> None:
    first, task = SqliteJournal(tmp_path / "j.db"), training.received(to_train())
    first.keep(task, NOON)
    second = SqliteJournal(tmp_path / "j.db")
    assert second.get(task.order.task_id) == task
    first.close()
    second.close()


def test_no_url_reaches_the_disk(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "j.db")
    journal.keep(training.received(to_train(access=a_ticket("https://secret.example"))), NOON)
    journal.close()
    assert not any(b"secret.example" in file.read_bytes() for file in tmp_path.iterdir())
