"""Keeps trainings: state, events, outbox and read side change together, or not at all."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from sqlalchemy import bindparam, delete, func, select
from sqlalchemy.dialects.postgresql import Insert
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from infra.database.tables import events, outbox, timers, trainings
from schemas.envelope import decode, enclose, encode
from schemas.events import (
    Event,
    RoundStarted,
    TrainingAborted,
    TrainingCompleted,
    TrainingFailed,
    TrainingStarted,
)
from schemas.identity import order_id
from schemas.ids import MessageId, TrainingId
from schemas.timers import TimerMessage
from services.scheduler.evolve import evolve
from services.scheduler.keeping import KEEP
from services.scheduler.orders import ClearTimer, SetTimer
from services.scheduler.posting import Post, Postings, postings
from services.scheduler.projection import projected, summary
from services.scheduler.saga import Received, Step
from services.scheduler.state import Training, from_snapshot, to_snapshot

By = Callable[[Training | None, datetime], Step]

LEASE_S = 30.0  # a post that is not done by then is published again
_SNAPSHOT_EVERY = 500  # events; also at the start and at the end of each round
_CACHED = 128  # trainings


@dataclass(frozen=True, slots=True)
class Committed:
    """What has been kept, and what is now to be posted, in this order."""

    step: Step
    posts: tuple[Post, ...] = ()


class TrainingStore(Protocol):
    async def get(self, training_id: TrainingId) -> Training | None: ...

    async def change(self, training_id: TrainingId, by: By) -> Committed:
        """Keep the events and orders of `by` together, or neither.

        `by` gets the newest state and the store's own clock; it is called again when another writer was
        faster.  A training that nobody has created changes nothing.
        """
        ...

    async def due(self) -> Sequence[Received]:
        """Messages of the timers whose moment has come.  They stay until the training has moved on."""
        ...


class PostgresTrainings:
    """Rows are locked per training; the state is remembered between changes and checked by `seq`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._cache: OrderedDict[TrainingId, Training] = OrderedDict()

    async def get(self, training_id: TrainingId) -> Training | None:
        async with self._engine.connect() as connection:
            row = (await connection.execute(_SELECT, {"id": training_id})).one_or_none()
            return None if row is None else await self._load(connection, training_id, row.seq)

    async def change(self, training_id: TrainingId, by: By) -> Committed:
        while True:
            try:
                async with self._engine.begin() as connection:
                    committed = await self._change(connection, training_id, by)
            except IntegrityError as error:
                if "pk_events" not in str(error.orig):
                    raise
                self._cache.pop(training_id, None)
                continue
            self._remember(training_id, committed.step.training)
            return committed

    async def due(self) -> Sequence[Received]:
        async with self._engine.connect() as connection:
            found = await connection.execute(_DUE)
            envelopes = [decode(row.message, TimerMessage) for row in found]
        return [Received(envelope.id, envelope.data) for envelope in envelopes]

    async def _change(self, connection: AsyncConnection, training_id: TrainingId, by: By) -> Committed:
        row = (await connection.execute(_LOCK, {"id": training_id})).one_or_none()
        if row is None:
            return Committed(Step(None))
        step = by(await self._load(connection, training_id, row.seq), row.now)
        found = postings(training_id, step, row.now)
        if step.events or step.orders:
            await _keep(connection, training_id, step, found, row)
        return Committed(step, (*found.events, *found.posts.values()))

    async def _load(self, connection: AsyncConnection, training_id: TrainingId, seq: int) -> Training | None:
        cached = self._cache.get(training_id)
        if cached is not None and cached.seq == seq:
            return cached
        row = (await connection.execute(_SNAPSHOT, {"id": training_id})).one()
        training = None if row.snapshot is None else from_snapshot(row.snapshot)
        found = await connection.execute(_EVENTS_AFTER, {"id": training_id, "after": row.snapshot_seq})
        for (envelope,) in found:
            training = evolve(training, decode(envelope, Event).data)
        return training

    def _remember(self, training_id: TrainingId, training: Training | None) -> None:
        self._cache.pop(training_id, None)
        if training is not None and not training.is_over:
            self._cache[training_id] = training
        if len(self._cache) > _CACHED:
            self._cache.popitem(last=False)


async def _keep(
    connection: AsyncConnection, training_id: TrainingId, step: Step, found: Postings, row: Any
) -> None:
    """The rare statements first; then events, outbox and the training's own row in one."""
    training = step.training
    if found.settles_all:
        await connection.execute(_FORGET_ALL, {"training_id": training_id})
    if isinstance(found.timer, SetTimer):
        await connection.execute(_set_timer(found.timer, row.now))
    elif isinstance(found.timer, ClearTimer):
        await connection.execute(_CLEAR_TIMER, {"training_id": training_id})
    if training is not None:
        for statement, rows in projected(training, step.events, row.now):
            await connection.execute(statement, rows or None)
    await connection.execute(KEEP, {"training": training_id, **_kept(step, found, row)})


def _kept(step: Step, found: Postings, row: Any) -> dict[str, Any]:
    """New posts are leased to whoever commits: it posts them at once."""
    posts = (*found.events, *found.posts.values())
    return {
        "now": row.now,
        "due_at": row.now + timedelta(seconds=LEASE_S),
        "settled": list(found.settled),
        "seqs": [recorded.seq for recorded in step.events],
        "types": [recorded.event.type for recorded in step.events],
        "envelopes": [post.body for post in found.events],
        "ids": [post.id for post in posts],
        "exchanges": [post.exchange for post in posts],
        "keys": [post.routing_key for post in posts],
        "bodies": [post.body for post in posts],
        "waits": [post.until_answered for post in posts],
        "snapshot": _snapshot(step, row.snapshot_seq),
        **summary(step.training),
    }


def _snapshot(step: Step, before: int) -> bytes | None:
    """Nothing while the newest one will do."""
    training = step.training
    if training is None or (training.seq - before < _SNAPSHOT_EVERY and not _ends_a_chapter(step)):
        return None
    return to_snapshot(training)


def _ends_a_chapter(step: Step) -> bool:
    return any(isinstance(recorded.event, _CHAPTERS) for recorded in step.events)


def _set_timer(timer: SetTimer, now: datetime) -> Insert:
    envelope = enclose(timer.message, id=timer_id(timer), source="scheduler", time=now)
    fresh = {"message": encode(envelope), "due_at": timer.due_at}
    row = {"training_id": timer.message.training_id, **fresh}
    return upsert(timers).values(row).on_conflict_do_update(constraint=timers.primary_key, set_=fresh)


def timer_id(timer: SetTimer) -> MessageId:
    return order_id(timer.message.training_id, timer.message.type, timer.due_at.isoformat())


_CHAPTERS = (TrainingStarted, RoundStarted, TrainingCompleted, TrainingFailed, TrainingAborted)

_SELECT = select(trainings.c.seq, trainings.c.snapshot_seq, func.clock_timestamp().label("now")).where(
    trainings.c.id == bindparam("id")
)
_LOCK = _SELECT.with_for_update()
_SNAPSHOT = select(trainings.c.snapshot, trainings.c.snapshot_seq).where(trainings.c.id == bindparam("id"))
_EVENTS_AFTER = (
    select(events.c.envelope)
    .where(events.c.training_id == bindparam("id"), events.c.seq > bindparam("after"))
    .order_by(events.c.seq)
)
_DUE = (
    select(timers.c.message)
    .where(timers.c.due_at <= func.clock_timestamp())
    .order_by(timers.c.due_at)
    .limit(100)
)
_FORGET_ALL = delete(outbox).where(outbox.c.training_id == bindparam("training_id"), outbox.c.until_answered)
_CLEAR_TIMER = delete(timers).where(timers.c.training_id == bindparam("training_id"))
