"""What happens because of what workers report of a closed round."""

from datetime import datetime
from typing import assert_never

from schemas import events as e
from schemas import reports as r
from schemas.weights import ModelRef
from schemas.words import Phase
from services.scheduler.phases import (
    Events,
    abandon,
    advance,
    close,
    current_round,
    evaluate,
    task_of,
    then,
    weighted_metrics,
)
from services.scheduler.reducing import Stage, slots_of, stage_of
from services.scheduler.state import TaskState, Training

Report = r.ShardMeasured | r.UpdatesChosen | r.ShardReduced | r.UpdateLost | r.RoundRefused | r.ModelPublished


def aggregating(training: Training, message: Report, now: datetime) -> Events:  # noqa: PLR0911 -- one case a report
    """Nothing but reports of the newest close decide anything."""
    current = training.round
    if (
        current is None
        or current.phase is not Phase.AGGREGATING
        or (current.number, training.epoch) != (message.round, message.epoch)
    ):
        return ()
    match message:
        case r.ShardMeasured():
            return _measured(training, message)
        case r.UpdatesChosen():
            return _chosen(training, message)
        case r.ShardReduced():
            return _reduced(training, message)
        case r.UpdateLost():
            return _lost(training, message, now)
        case r.RoundRefused():
            return then((message,), training, lambda after: abandon(after, now, message.reason))
        case r.ModelPublished():
            return _published(training, message, now)
        case _:
            assert_never(message)


def _measured(training: Training, message: r.ShardMeasured) -> Events:
    measured = current_round(training).measured
    is_awaited = stage_of(training) is Stage.MEASURING and message.shard < len(measured)
    return (message,) if is_awaited and not measured[message.shard] else ()


def _chosen(training: Training, message: r.UpdatesChosen) -> Events:
    """Only accepted updates can be chosen, each once, and they are named in the order of their clients."""
    accepted = [task.client_id for task in current_round(training).in_state(TaskState.ACCEPTED)]
    is_sorted = sorted(set(message.clients) & set(accepted)) == list(message.clients)
    return (message,) if stage_of(training) is Stage.CHOOSING and is_sorted else ()


def _reduced(training: Training, message: r.ShardReduced) -> Events:
    shards = current_round(training).shards
    is_awaited = stage_of(training) is Stage.REDUCING and message.shard < len(shards)
    is_whole = len(message.digests) == 1 + len(slots_of(training))
    return (message,) if is_awaited and is_whole and not shards[message.shard] else ()


def _lost(training: Training, message: r.UpdateLost, now: datetime) -> Events:
    """Once every shard is in, the updates are not needed any more; nor are those that were not chosen."""
    current = current_round(training)
    if all(current.shards) or (current.chosen and message.client_id not in current.chosen):
        return ()
    task = task_of(training, message, TaskState.ACCEPTED, Phase.AGGREGATING)
    return then((message,), training, lambda after: close(after, now)) if task else ()


def _published(training: Training, message: r.ModelPublished, now: datetime) -> Events:
    if stage_of(training) is not Stage.PUBLISHING or not _follows(training, message):
        return ()
    aggregated = e.RoundAggregated(
        training_id=training.id,
        round=message.round,
        epoch=message.epoch,
        model=message.model,
        state=message.state,
        metrics=weighted_metrics(current_round(training).in_state(TaskState.ACCEPTED)),
    )
    following = evaluate if training.plan.evaluates(message.round) else advance
    return then((aggregated,), training, lambda after: following(after, now))


def _follows(training: Training, message: r.ModelPublished) -> bool:
    """Whether it can be the next version: the same model in a file of the same layout, and its state."""
    has_state = tuple(part.slot for part in message.state) == slots_of(training)
    return has_state and _is_next(message.model, training.model)


def _is_next(next_: ModelRef, current: ModelRef) -> bool:
    return (next_.model_id, next_.version, next_.size, next_.header_size) == (
        current.model_id,
        current.version + 1,
        current.size,
        current.header_size,
    )
