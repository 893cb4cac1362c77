"""The journal: what is known about each task, on disk before anybody is told."""

import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Protocol
from uuid import UUID

from agents.client.training import Step, Task
from schemas.ids import TaskId, TrainingId

_TABLES = """
CREATE TABLE IF NOT EXISTS tasks (
    task_id TEXT PRIMARY KEY, training_id TEXT NOT NULL, step TEXT NOT NULL,
    changed_at REAL NOT NULL, task TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ended (training_id TEXT PRIMARY KEY, changed_at REAL NOT NULL) WITHOUT ROWID;
"""
_KEEP = """
INSERT INTO tasks VALUES (?, ?, ?, ?, ?) ON CONFLICT (task_id)
DO UPDATE SET step = excluded.step, changed_at = excluded.changed_at, task = excluded.task
"""
_CLOSED = (Step.REPORTED.value, Step.CANCELLED.value)


class Journal(Protocol):
    """Every change is on disk when the call returns."""

    def keep(self, task: Task, now: datetime) -> None: ...

    def get(self, task_id: TaskId) -> Task | None: ...

    def open_tasks(self) -> tuple[Task, ...]:
        """Those that still need something done, oldest first."""
        ...

    def end_training(self, training_id: TrainingId, now: datetime, *, is_final: bool) -> tuple[TaskId, ...]:
        """Forget the training's tasks and name them; if final, no order of it counts any more."""
        ...

    def has_ended(self, training_id: TrainingId) -> bool: ...

    def expire(self, before: datetime) -> None:
        """Forget what was closed before then."""
        ...


class SqliteJournal:
    """One SQLite file.

    A change takes a fraction of a millisecond, so it is made where it is asked for: in the event loop, where
    no cancellation can come between deciding and writing.
    """

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(_TABLES)

    def keep(self, task: Task, now: datetime) -> None:
        order = task.order
        row = (str(order.task_id), str(order.training_id), task.step.value, now.timestamp())
        self._db.execute(_KEEP, (*row, task.model_dump_json()))

    def get(self, task_id: TaskId) -> Task | None:
        found = self._select("WHERE task_id = ?", str(task_id))
        return found[0] if found else None

    def open_tasks(self) -> tuple[Task, ...]:
        return self._select("WHERE step NOT IN (?, ?) ORDER BY changed_at, task_id", *_CLOSED)

    def end_training(self, training_id: TrainingId, now: datetime, *, is_final: bool) -> tuple[TaskId, ...]:
        key = str(training_id)
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            gone = self._db.execute(
                "DELETE FROM tasks WHERE training_id = ? RETURNING task_id", (key,)
            ).fetchall()
            if is_final:
                self._db.execute("INSERT OR REPLACE INTO ended VALUES (?, ?)", (key, now.timestamp()))
        return tuple(TaskId(UUID(task_id)) for (task_id,) in gone)

    def has_ended(self, training_id: TrainingId) -> bool:
        found = self._db.execute("SELECT 1 FROM ended WHERE training_id = ?", (str(training_id),))
        return found.fetchone() is not None

    def expire(self, before: datetime) -> None:
        when = before.timestamp()
        self._db.execute("DELETE FROM tasks WHERE step IN (?, ?) AND changed_at < ?", (*_CLOSED, when))
        self._db.execute("DELETE FROM ended WHERE changed_at < ?", (when,))

    def close(self) -> None:
        self._db.close()

    def _select(self, which: str, *values: str) -> tuple[Task, ...]:
        with closing(self._db.execute(f"SELECT task FROM tasks {which}", values)) as rows:  # noqa: S608 -- constants
            return tuple(Task.model_validate_json(task) for (task,) in rows)


class MemoryJournal:
    """The twin that forgets when the process ends."""

    def __init__(self) -> None:
        self._tasks: dict[TaskId, tuple[datetime, Task]] = {}
        self._ended: dict[TrainingId, datetime] = {}

    def keep(self, task: Task, now: datetime) -> None:
        self._tasks[task.order.task_id] = (now, task)

    def get(self, task_id: TaskId) -> Task | None:
        row = self._tasks.get(task_id)
        return row[1] if row else None

    def open_tasks(self) -> tuple[Task, ...]:
        rows = sorted(self._tasks.items(), key=lambda row: (row[1][0], str(row[0])))
        return tuple(task for _, (_, task) in rows if task.is_open)

    def end_training(self, training_id: TrainingId, now: datetime, *, is_final: bool) -> tuple[TaskId, ...]:
        gone = tuple(key for key, (_, task) in self._tasks.items() if task.order.training_id == training_id)
        for key in gone:
            del self._tasks[key]
        if is_final:
            self._ended[training_id] = now
        return gone

    def has_ended(self, training_id: TrainingId) -> bool:
        return training_id in self._ended

    def expire(self, before: datetime) -> None:
        self._tasks = {k: row for k, row in self._tasks.items() if row[1].is_open or row[0] >= before}
        self._ended = {k: when for k, when in self._ended.items() if when >= before}
