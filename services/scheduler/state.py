"""The state of one training: frozen values, cheap to change however many clients there are."""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from immutables import Map
from pydantic import ConfigDict, PlainSerializer, PlainValidator, TypeAdapter

from schemas.identity import task_id
from schemas.ids import ClientId, TaskId, TrainingId
from schemas.plan import Plan
from schemas.weights import ModelRef, State
from schemas.words import Phase, TaskKind, TrainingState


class TaskState(StrEnum):
    OPEN = "open"
    UPLOADED = "uploaded"
    ACCEPTED = "accepted"
    REPORTED = "reported"
    CANCELLED = "cancelled"  # nobody waits for it any more
    OUT = "out"  # failed, rejected, lost, or the client has left


@dataclass(frozen=True, slots=True)
class Link:
    """An accepted update of a daisy chain: somebody else goes on with it."""

    client_id: ClientId  # whose update it is
    task_id: TaskId
    round: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Task:
    """What one client is asked to do, and what came of it.  `issue` counts how often it was asked."""

    id: TaskId
    client_id: ClientId
    kind: TaskKind
    issue: int
    state: TaskState = TaskState.OPEN
    sha256: str = ""
    etag: str = ""
    num_examples: int = 0
    metrics: tuple[tuple[str, float], ...] = ()
    digests: tuple[str, ...] = ()
    norm: float = 0.0
    distance: float | None = None
    tensors: tuple[int, ...] | None = None
    goes_on_with: Link | None = None  # in a daisy chain; otherwise it starts from the current model


@dataclass(frozen=True, slots=True)
class Best:
    """The version with the best metric so far, and how many evaluations have found no better one since."""

    model: ModelRef | None = None
    value: float | None = None
    evaluations_since: int = 0


_TASKS = TypeAdapter(tuple[Task, ...])


def _as_map(tasks: Any) -> Map[TaskId, Task]:
    return tasks if isinstance(tasks, Map) else Map({t.id: t for t in _TASKS.validate_python(tasks)})


def _as_tuple(tasks: Map[TaskId, Task]) -> tuple[Task, ...]:
    return tuple(tasks[key] for key in sorted(tasks))


Tasks = Annotated[
    Map[TaskId, Task], PlainValidator(_as_map), PlainSerializer(_as_tuple, return_type=tuple[Task, ...])
]


@dataclass(frozen=True, slots=True)
class Round:
    """The current attempt of a round.  `open`, `uploaded`, `accepted` and `reported` count tasks."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(arbitrary_types_allowed=True)

    number: int
    attempt: int
    phase: Phase
    clients: tuple[ClientId, ...]  # who was drawn, sorted
    tasks: Tasks
    deadline_at: datetime  # of the intake or the evaluation
    open: int
    uploaded: int = 0
    accepted: int = 0
    reported: int = 0
    intake_is_open: bool = True
    # while aggregating
    measured: tuple[str, ...] = ()  # the digest of each measured shard, "" while it is not in
    chosen: tuple[ClientId, ...] = ()  # whose updates the strategy keeps, once it has chosen
    shards: tuple[tuple[str, ...], ...] = ()  # the digests of each reduced shard's parts, () while not in

    @property
    def arrived(self) -> int:
        return self.uploaded + self.accepted + self.reported

    def with_task(self, task: Task) -> "Round":
        """The round with a task new or changed, and its counts in step."""
        before = self.tasks.get(task.id)
        counts = {state: getattr(self, state) for state in _COUNTED}
        if before is not None and before.state in counts:
            counts[before.state] -= 1
        if task.state in counts:
            counts[task.state] += 1
        return replace(self, tasks=self.tasks.set(task.id, task), **counts)

    def in_state(self, state: TaskState) -> tuple[Task, ...]:
        """Tasks in that state, sorted by client."""
        found = (task for task in self.tasks.values() if task.state is state)
        return tuple(sorted(found, key=lambda task: task.client_id))


_COUNTED = (TaskState.OPEN, TaskState.UPLOADED, TaskState.ACCEPTED, TaskState.REPORTED)


@dataclass(frozen=True, slots=True)
class Training:
    """The fold of a training's events."""

    id: TrainingId
    plan: Plan
    model: ModelRef  # the newest published version
    participants: tuple[ClientId, ...]  # sorted
    state: TrainingState = TrainingState.RUNNING
    slots: State = ()  # the strategy's own state, as committed with `model`
    round: Round | None = None
    chain: tuple[Link, ...] = ()  # what the newest round has left in place of a model, sorted by client
    best: Best = Best()
    epoch: int = 0  # of the newest close of any round; never goes back
    reason: str | None = None
    seq: int = 0

    @property
    def is_over(self) -> bool:
        return self.state is not TrainingState.RUNNING

    def task_of(self, client: ClientId) -> Task | None:
        """The newest task of a client in the current round."""
        if self.round is None:
            return None
        newest = None
        for issue in range(1, self.plan.participation.task_attempts + 1):
            found = self.round.tasks.get(self.id_of_task(client, issue))
            if found is None:
                break
            newest = found
        return newest

    def id_of_task(self, client: ClientId, issue: int = 1) -> TaskId:
        assert self.round is not None
        kind = TaskKind.EVALUATE if self.round.phase is Phase.EVALUATING else TaskKind.TRAIN
        return task_id(self.id, kind, self.round.number, self.round.attempt, client, issue)


_TRAINING = TypeAdapter(Training)


def to_snapshot(training: Training) -> bytes:
    """The same training gives the same bytes."""
    return _TRAINING.dump_json(training)


def from_snapshot(snapshot: bytes) -> Training:
    return _TRAINING.validate_json(snapshot)
