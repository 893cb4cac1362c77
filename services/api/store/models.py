"""Models, their versions and what was measured on them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Select, and_, delete, exists, insert, literal, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from infra.database.tables import metrics, model_versions, models, participants, trainings
from schemas.ids import ModelId, UserId
from schemas.weights import ModelRef
from services.api.authorisation import Caller, Kind, Thing
from services.api.errors import NotFound
from services.api.forms import Measurement
from services.api.store.rows import Found, many, one


@dataclass(frozen=True, slots=True)
class Description:
    name: str
    description: str
    input_shape: tuple[int | None, ...] | None


async def add(tx: AsyncConnection, owner: UserId, told: Description, ref: ModelRef) -> None:
    """A model whose version 0 is the file `ref` refers to."""
    await tx.execute(
        insert(models).values(
            id=ref.model_id,
            owner_id=owner,
            name=told.name,
            description=told.description,
            input_shape=told.input_shape,
            version=ref.version,
        )
    )
    file = ref.model_dump(include={"model_id", "version", "key", "sha256", "size", "header_size"})
    await tx.execute(insert(model_versions).values(**file))


async def clone(tx: AsyncConnection, row: Found) -> ModelRef:
    """A new model whose version 0 is the same immutable object as the newest version of this one."""
    copy = ref_of(row).model_copy(update={"model_id": ModelId(uuid4()), "version": 0})
    await add(tx, row.owner, Description(row.name, row.description, row.input_shape), copy)
    return copy


async def get(tx: AsyncConnection, caller: Caller, id_: UUID, *, lock: bool = False) -> Found:
    """The model with its newest version; `participates` is about `caller`."""
    statement = _models(caller).where(models.c.id == id_)
    statement = statement.with_for_update(of=models) if lock else statement
    row = await one(tx, statement)
    if row is None:
        raise NotFound(Kind.MODEL, id_)
    return row


async def visible_to(tx: AsyncConnection, caller: Caller) -> Sequence[Found]:
    mine = or_(models.c.owner_id == caller.id, _takes_part(caller), literal(caller.admin))
    return await many(tx, _models(caller).where(mine).order_by(models.c.created_at, models.c.id))


async def version(tx: AsyncConnection, id_: UUID, number: int) -> Found:
    statement = _versions(id_).where(model_versions.c.version == number)
    row = await one(tx, statement)
    if row is None:
        raise NotFound(f"version {number} of model", id_)
    return row


async def versions(tx: AsyncConnection, id_: UUID) -> Sequence[Found]:
    return await many(tx, _versions(id_).order_by(model_versions.c.version))


async def remove(tx: AsyncConnection, id_: UUID) -> tuple[str, ...]:
    """A model without a training; gives the keys nobody refers to any more."""
    mine = select(model_versions.c.key).where(model_versions.c.model_id == id_)
    keys = frozenset((await tx.execute(mine)).scalars())
    await tx.execute(delete(models).where(models.c.id == id_))
    left = select(model_versions.c.key).where(model_versions.c.key.in_(keys))
    return tuple(keys - frozenset((await tx.execute(left)).scalars()))


async def measured(tx: AsyncConnection, id_: UUID, after: int, limit: int) -> Sequence[Found]:
    statement = (
        select(metrics, metrics.c.model_id.label("model"), metrics.c.reporter_id.label("reporter"))
        .where(metrics.c.model_id == id_, metrics.c.id > after)
        .order_by(metrics.c.id)
        .limit(limit)
    )
    return await many(tx, statement)


async def record(tx: AsyncConnection, row: Found, reporter: UserId, measured: Iterable[Measurement]) -> None:
    """Kept with the newest version as their step."""
    rows = [
        {
            "model_id": row.id,
            "key": one.key,
            "value_float": one.number,
            "value_binary": one.raw,
            "step": row.version,
            "reporter_id": reporter,
        }
        for one in measured
    ]
    if rows:
        await tx.execute(insert(metrics), rows)


def thing(row: Found) -> Thing:
    return Thing(Kind.MODEL, row.id, row.owner, row.participates)


def ref_of(row: Found) -> ModelRef:
    return ModelRef(
        model_id=row.id,
        version=row.version,
        key=row.key,
        sha256=row.sha256,
        size=row.size,
        header_size=row.header_size,
    )


def _models(caller: Caller) -> Select[Any]:
    newest = and_(model_versions.c.model_id == models.c.id, model_versions.c.version == models.c.version)
    return (
        select(
            models,
            models.c.owner_id.label("owner"),
            models.c.version.label("round"),
            model_versions.c.key,
            model_versions.c.sha256,
            model_versions.c.size,
            model_versions.c.header_size,
            trainings.c.id.label("training"),
            _takes_part(caller).label("participates"),
        )
        .join(model_versions, newest)
        .outerjoin(trainings, trainings.c.model_id == models.c.id)
    )


def _versions(id_: UUID) -> Select[Any]:
    return select(model_versions, model_versions.c.training_id.label("training")).where(
        model_versions.c.model_id == id_
    )


def _takes_part(caller: Caller) -> ColumnElement[bool]:
    return exists().where(
        participants.c.training_id == trainings.c.id,
        participants.c.client_id == caller.id,
        participants.c.removed_at.is_(None),
    )
