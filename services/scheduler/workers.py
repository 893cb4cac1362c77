"""What workers are asked to do with updates, and with rounds that have closed."""

import hashlib
from typing import Any

from schemas import commands as c
from schemas import keys
from schemas import reports as r
from schemas.commands import AggregatorCommand
from schemas.identity import order_id
from schemas.ids import MessageId, TaskId
from services.scheduler.orders import Order, Send, Settle, StoreObject
from services.scheduler.reducing import Stage, extra_of, object_of, shard_bytes, stage_of
from services.scheduler.state import Round, Training


def inspect(training: Training, event: r.ModelUploaded) -> Send:
    plan = training.plan
    command = c.InspectUpdate(
        training_id=training.id,
        task_id=event.task_id,
        client_id=event.client_id,
        round=event.round,
        key=keys.update(training.id, event.round, event.task_id),
        sha256=event.sha256,
        model=training.model,
        update=plan.update,
        partial=plan.partial,
        extra=extra_of(training),
        measures=plan.measures,
        shard_bytes=shard_bytes(training),
    )
    return Send(inspection(event.task_id), command)


def begin_stage(training: Training) -> tuple[Order, ...]:
    """The plan of what is next, and the first stage; a single shard is done on the way to the next one."""
    key, body = object_of(training)
    return StoreObject(order_id(key), key, body), *_stage(training, key, hashlib.sha256(body).hexdigest())


def go_on(training: Training, event: r.ShardMeasured | r.UpdatesChosen | r.ShardReduced) -> tuple[Order, ...]:
    """What was asked is answered; the next stage begins when this one is through."""
    match event:
        case r.ShardMeasured():
            answered = _order(training, "MeasureShard", event.shard)
            return Settle((answered,)), *_next(training, Stage.CHOOSING)
        case r.ShardReduced():
            answered = _order(training, "ReduceShard", event.shard)
            return Settle((answered,)), *_next(training, Stage.PUBLISHING)
        case r.UpdatesChosen():
            return Settle((_order(training, "ChooseUpdates"),)), *begin_stage(training)


def inspection(task: TaskId) -> MessageId:
    """Commands have ids by which their answers find them."""
    return order_id(task, "InspectUpdate")


def publication(training: Training) -> MessageId:
    return _order(training, "PublishModel")


def orders_of(training: Training) -> tuple[MessageId, ...]:
    """All that may have been ordered for the newest close."""
    current = _round(training)
    whole = ("ChooseUpdates", "PublishModel") if current.measured else ("PublishModel",)
    shared = ("MeasureShard", "ReduceShard") if current.measured else ("ReduceShard",)
    shards = range(len(current.shards))
    return (
        *(_order(training, kind) for kind in whole),
        *(_order(training, kind, shard) for kind in shared for shard in shards),
    )


def _next(training: Training, stage: Stage) -> tuple[Order, ...]:
    if stage_of(training) is not stage:
        return ()
    key, body = object_of(training)
    return _stage(training, key, hashlib.sha256(body).hexdigest())


def _stage(training: Training, plan: str, sha256: str) -> tuple[Send, ...]:
    current = _round(training)
    order: dict[str, Any] = {  # fields of any of the commands
        "training_id": training.id,
        "round": current.number,
        "epoch": training.epoch,
        "plan": plan,
        "plan_sha256": sha256,
    }
    shards = range(len(current.shards))
    is_single = len(shards) == 1
    match stage_of(training):
        case Stage.MEASURING:
            return tuple(_send(training, c.MeasureShard(**order, shard=shard), shard) for shard in shards)
        case Stage.CHOOSING:
            measured = () if is_single else current.measured
            return (_send(training, c.ChooseUpdates(**order, shards=measured)),)
        case Stage.REDUCING:
            return tuple(_send(training, c.ReduceShard(**order, shard=shard), shard) for shard in shards)
        case Stage.PUBLISHING:
            reduced = () if is_single else current.shards
            return (_send(training, c.PublishModel(**order, model=training.model, shards=reduced)),)


def _send(training: Training, command: AggregatorCommand, *shard: int) -> Send:
    return Send(_order(training, command.type, *shard), command)


def _order(training: Training, kind: str, *shard: int) -> MessageId:
    return order_id(training.id, _round(training).number, training.epoch, kind, *shard)


def _round(training: Training) -> Round:
    assert training.round is not None, "workers work for a round"
    return training.round
