"""Writes orders to the scheduler into the outbox, in the transaction of whoever asks."""

from datetime import UTC, datetime
from uuid import uuid4

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from infra.database.tables import OUTBOX_CHANNEL, outbox
from schemas.commands import AbortTraining, SchedulerCommand, StartTraining
from schemas.envelope import enclose, encode
from schemas.identity import order_id
from schemas.ids import MessageId
from schemas.routing import TO_SCHEDULER, Role

_ONCE = (StartTraining, AbortTraining)  # said again, they are the same order


async def place(tx: AsyncConnection, order: SchedulerCommand) -> None:
    """Nothing changes where the same order lies there already."""
    route = TO_SCHEDULER[order.type]
    id_ = _id(order)
    await tx.execute(
        insert(outbox)
        .values(
            id=id_,
            training_id=order.training_id,
            exchange=route.exchange,
            routing_key=route.key_for(order),
            body=encode(enclose(order, id=id_, source=Role.API, time=datetime.now(UTC))),
            until_answered=True,
        )
        .on_conflict_do_nothing()
    )
    await tx.execute(select(func.pg_notify(OUTBOX_CHANNEL, "")))


def _id(order: SchedulerCommand) -> MessageId:
    if isinstance(order, _ONCE):
        return order_id(order.training_id, order.type)
    return MessageId(uuid4())
