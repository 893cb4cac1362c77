"""What the reduction of a closed round consists of."""

from schemas import keys
from schemas.reduction import ReducePlan
from schemas.weights import MAX_SHARDS, PlannedUpdate
from services.scheduler.state import Task, TaskState, Training

ALIGNMENT = 8  # of shards: no element is larger


def shard_bytes(training: Training) -> int:
    """As planned, or as many more as keep the shards countable."""
    least = _parts(_data_bytes(training), MAX_SHARDS * ALIGNMENT) * ALIGNMENT
    return max(training.plan.shard_bytes, least)


def shard_count(training: Training) -> int:
    """Shards are ranges of the tensors' bytes; a model without any has one empty shard."""
    return max(1, _parts(_data_bytes(training), shard_bytes(training)))


def plan_of(training: Training) -> ReducePlan:
    """The reduce plan of the close that `training.epoch` counts.  The same state gives the same plan."""
    assert training.round is not None
    number = training.round.number
    accepted = training.round.in_state(TaskState.ACCEPTED)
    return ReducePlan(
        training_id=training.id,
        round=number,
        epoch=training.epoch,
        strategy=training.plan.strategy,
        current=training.model,
        shard_bytes=shard_bytes(training),
        updates=tuple(_planned(training, number, task) for task in accepted),
    )


def _data_bytes(training: Training) -> int:
    return training.model.size - training.model.header_size


def _parts(whole: int, part: int) -> int:
    """How many parts cover the whole; exact however large it is."""
    return -(-whole // part)


def _planned(training: Training, number: int, task: Task) -> PlannedUpdate:
    return PlannedUpdate(
        client_id=task.client_id,
        task_id=task.id,
        key=keys.update(training.id, number, task.id),
        etag=task.etag,
        sha256=task.sha256,
        weight=task.num_examples,
        digests=task.digests,
    )
