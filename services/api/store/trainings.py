"""Trainings: the row is their owner's until a start is requested, then the saga's."""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, delete, exists, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from infra.database.tables import events, outbox, participants, rounds, trainings
from schemas.ids import ClientId, ModelId, TrainingId, UserId
from schemas.plan import Plan
from schemas.words import TrainingState
from services.api.authorisation import Caller, Kind, Thing
from services.api.bodies import NewTraining
from services.api.errors import NotFound
from services.api.states import Stage, letter, stage
from services.api.store.rows import Found, many, one

_ENDED = ("aggregated", "chained")
_VIEWED = tuple(c for c in trainings.c if c not in {trainings.c.snapshot, trainings.c.snapshot_seq})


async def add(  # noqa: PLR0913 -- a training is all of these
    tx: AsyncConnection, id_: TrainingId, told: NewTraining, plan: Plan, *, owner: UserId, model: ModelId
) -> None:
    await tx.execute(
        insert(trainings).values(
            id=id_,
            owner_id=owner,
            model_id=model,
            plan=plan.model_dump(mode="json"),
            uncertainty_method=told.uncertainty_method,
            options=told.options.model_dump(mode="json", exclude_none=True),
            metric_names=list(told.metric_names),
        )
    )
    await add_participants(tx, id_, told.clients)


async def get(tx: AsyncConnection, caller: Caller, id_: UUID, *, lock: bool = False) -> Found:
    """`participates` is about `caller`; a locked row waits for whoever else changes the training."""
    statement = _trainings(caller).where(trainings.c.id == id_)
    statement = statement.with_for_update(of=trainings) if lock else statement
    row = await one(tx, statement)
    if row is None:
        raise NotFound(Kind.TRAINING, id_)
    return row


async def owned_by(tx: AsyncConnection, caller: Caller) -> Sequence[Found]:
    return await _listed(tx, caller, trainings.c.owner_id == caller.id)


async def taken_part_in_by(tx: AsyncConnection, caller: Caller) -> Sequence[Found]:
    return await _listed(tx, caller, _takes_part(caller))


async def related_to(tx: AsyncConnection, caller: Caller) -> Sequence[Found]:
    return await _listed(tx, caller, or_(trainings.c.owner_id == caller.id, _takes_part(caller)))


async def every(tx: AsyncConnection, caller: Caller) -> Sequence[Found]:
    return await _listed(tx, caller, trainings.c.id.is_not(None))


async def rounds_of(tx: AsyncConnection, id_: UUID) -> Sequence[Found]:
    statement = select(rounds).where(rounds.c.training_id == id_).order_by(rounds.c.round)
    return await many(tx, statement)


async def events_of(tx: AsyncConnection, id_: UUID, after: int, limit: int) -> Sequence[bytes]:
    """The stored envelopes, byte for byte."""
    statement = (
        select(events.c.envelope)
        .where(events.c.training_id == id_, events.c.seq > after)
        .order_by(events.c.seq)
        .limit(limit)
    )
    return (await tx.execute(statement)).scalars().all()


async def request_start(tx: AsyncConnection, id_: UUID) -> None:
    await _change(tx, id_, start_requested_at=func.now())


async def abort_unstarted(tx: AsyncConnection, id_: UUID, reason: str) -> None:
    """No saga has heard of it, so there is nobody to tell."""
    await _change(tx, id_, state=TrainingState.ABORTED, reason=reason)


async def remove(tx: AsyncConnection, id_: UUID) -> None:
    """With the orders that nobody has answered yet: without its row they never would be."""
    await tx.execute(delete(outbox).where(outbox.c.training_id == id_, outbox.c.until_answered))
    await tx.execute(delete(trainings).where(trainings.c.id == id_))


async def add_participants(tx: AsyncConnection, id_: UUID, clients: Iterable[ClientId]) -> None:
    rows = [{"training_id": id_, "client_id": client} for client in set(clients)]
    if rows:
        await tx.execute(upsert(participants).on_conflict_do_nothing(), rows)


async def remove_participants(tx: AsyncConnection, id_: UUID, clients: Iterable[ClientId]) -> None:
    chosen = participants.c.client_id.in_(set(clients))
    await tx.execute(delete(participants).where(participants.c.training_id == id_, chosen))


async def unfinished_with(tx: AsyncConnection, client: UUID) -> Sequence[Found]:
    """Locked, in one order, so that two revocations do not wait for each other."""
    taking_part = select(participants.c.training_id).where(
        participants.c.client_id == client, participants.c.removed_at.is_(None)
    )
    unfinished = trainings.c.state.in_((TrainingState.CREATED, TrainingState.RUNNING))
    statement = select(trainings).where(trainings.c.id.in_(taking_part), unfinished)
    return await many(tx, statement.order_by(trainings.c.id).with_for_update())


async def of_model(tx: AsyncConnection, model: UUID) -> Found | None:
    """Locked."""
    statement = select(trainings).where(trainings.c.model_id == model).with_for_update()
    return await one(tx, statement)


def thing(row: Found) -> Thing:
    return Thing(Kind.TRAINING, row.id, row.owner_id, row.participates)


def stage_of(row: Found) -> Stage:
    return stage(TrainingState(row.state), start_requested=row.start_requested_at is not None)


def letter_of(row: Found) -> str:
    return letter(TrainingState(row.state), start_requested=row.start_requested_at is not None)


async def _change(tx: AsyncConnection, id_: UUID, **values: Any) -> None:
    await tx.execute(update(trainings).where(trainings.c.id == id_).values(**values, updated_at=func.now()))


async def _listed(tx: AsyncConnection, caller: Caller, chosen: ColumnElement[bool]) -> Sequence[Found]:
    statement = _trainings(caller).where(chosen).order_by(trainings.c.created_at, trainings.c.id)
    return await many(tx, statement)


def _trainings(caller: Caller) -> Select[Any]:
    return select(
        *_VIEWED, _members().label("participants"), _takes_part(caller).label("participates"), *_progress()
    )


def _members() -> ColumnElement[Any]:
    ids = select(participants.c.client_id).where(
        participants.c.training_id == trainings.c.id, participants.c.removed_at.is_(None)
    )
    return func.array(ids.order_by(participants.c.client_id).scalar_subquery())


def _progress() -> tuple[ColumnElement[Any], ...]:
    """How many rounds have ended with a model or a link of a chain, and what the last evaluation found."""
    mine = rounds.c.training_id == trainings.c.id
    completed = select(func.count()).select_from(rounds).where(mine, rounds.c.state.in_(_ENDED))
    evaluated = select(rounds.c.metrics).where(mine, rounds.c.metrics != {})
    newest = evaluated.order_by(rounds.c.round.desc()).limit(1)
    return completed.scalar_subquery().label("rounds_completed"), newest.scalar_subquery().label("metrics")


def _takes_part(caller: Caller) -> ColumnElement[bool]:
    return exists().where(
        participants.c.training_id == trainings.c.id,
        participants.c.client_id == caller.id,
        participants.c.removed_at.is_(None),
    )
