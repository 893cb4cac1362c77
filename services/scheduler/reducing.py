"""What the reduction of a closed round consists of."""

from enum import Enum, auto

from schemas import keys
from schemas.reduction import ReducePlan
from schemas.strategies import SWAG, QFedAvg
from schemas.weights import MAX_SHARDS, PlannedUpdate
from schemas.words import Extra, Slot
from services.scheduler.state import Round, Task, TaskState, Training

ALIGNMENT = 8  # of shards: no element is larger


class Stage(Enum):
    """How far the newest close of a round has come.  A single shard is done on the way to the next stage."""

    MEASURING = auto()
    CHOOSING = auto()
    REDUCING = auto()
    PUBLISHING = auto()


def stage_of(training: Training) -> Stage:
    current = _round(training)
    is_single = len(current.shards) == 1
    if training.plan.strategy.chooses and not current.chosen:
        return Stage.CHOOSING if is_single or all(current.measured) else Stage.MEASURING
    return Stage.PUBLISHING if is_single or all(current.shards) else Stage.REDUCING


def shard_bytes(training: Training) -> int:
    """As planned, or as many more as keep the shards countable."""
    least = _parts(_data_bytes(training), MAX_SHARDS * ALIGNMENT) * ALIGNMENT
    return max(training.plan.shard_bytes, least)


def shard_count(training: Training) -> int:
    """Shards are ranges of the tensors' bytes; a model without any has one empty shard."""
    return max(1, _parts(_data_bytes(training), shard_bytes(training)))


def extra_of(training: Training) -> Extra | None:
    """What the current round's updates bring beside the weights."""
    return training.plan.strategy.extra_of(_round(training).number, training.plan.rounds)


def slots_of(training: Training) -> tuple[Slot, ...]:
    """Which parts of the strategy's state the current round writes; SWAG has some in its last rounds only."""
    strategy = training.plan.strategy
    return () if isinstance(strategy, SWAG) and extra_of(training) is None else strategy.slots


def object_of(training: Training) -> tuple[str, bytes]:
    """The plan of the close that `training.epoch` counts, as it lies in the store, and its key.

    The same state gives the same bytes.  Once the strategy has chosen it is the plan of the chosen updates.
    """
    current = _round(training)
    key = keys.chosen_plan if current.chosen else keys.reduce_plan
    return key(training.id, current.number, training.epoch), plan_of(training).model_dump_json().encode()


def plan_of(training: Training) -> ReducePlan:
    plan, current = training.plan, _round(training)
    return ReducePlan(
        training_id=training.id,
        round=current.number,
        epoch=training.epoch,
        strategy=plan.strategy,
        update=plan.update,
        norm_clip=plan.norm_clip,
        buffers=plan.buffers,
        extra=extra_of(training),
        is_chosen=bool(current.chosen),
        current=training.model,
        state=training.slots,
        shard_bytes=shard_bytes(training),
        updates=tuple(_planned(training, current.number, task) for task in _counted(current)),
    )


def _counted(current: Round) -> tuple[Task, ...]:
    accepted = current.in_state(TaskState.ACCEPTED)
    if not current.chosen:
        return accepted
    chosen = set(current.chosen)
    return tuple(task for task in accepted if task.client_id in chosen)


def _data_bytes(training: Training) -> int:
    return training.model.size - training.model.header_size


def _parts(whole: int, part: int) -> int:
    """How many parts cover the whole; exact however large it is."""
    return -(-whole // part)


def _planned(training: Training, number: int, task: Task) -> PlannedUpdate:
    strategy = training.plan.strategy
    return PlannedUpdate(
        client_id=task.client_id,
        task_id=task.id,
        key=keys.update(training.id, number, task.id),
        etag=task.etag,
        sha256=task.sha256,
        num_examples=task.num_examples,
        digests=task.digests,
        norm=task.norm,
        distance=task.distance,
        loss=dict(task.metrics)[strategy.loss_metric] if isinstance(strategy, QFedAvg) else None,
        tensors=task.tensors,
    )


def _round(training: Training) -> Round:
    assert training.round is not None, "only a round is reduced"
    return training.round
