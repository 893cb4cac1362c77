"""Brings sites into the broker and out of it, together with their rows."""

import secrets

from sqlalchemy.ext.asyncio import AsyncConnection
from yarl import URL

from infra.broker.topology import client_queue
from schemas.commands import RemoveParticipants
from schemas.ids import ClientId, TrainingId
from services.api import orders
from services.api.answers import Credentials
from services.api.credentials import new_password
from services.api.parts import Parts
from services.api.states import Stage
from services.api.store import clients, trainings, users
from services.api.store.rows import Found

_REVOKED = "the client was revoked"


async def enrol(tx: AsyncConnection, parts: Parts, client: ClientId) -> Credentials:
    """The rows count once the caller commits, after the broker's part.

    A crash in between leaves a login nobody has the password of; enrolling that id again replaces it.
    """
    queue = client_queue(client, secrets.token_hex(8))
    await clients.enrol(tx, client, queue)
    return await _admit(parts, client, queue)


async def renew(parts: Parts, client: Found) -> Credentials:
    """The same queue, with what lies in it, and a new password; the earlier one is void."""
    return await _admit(parts, ClientId(client.id), client.queue)


async def revoke(tx: AsyncConnection, parts: Parts, client: Found) -> None:
    """Neither the site nor its user gets in any more; its trainings go on without it.

    The broker comes first: no row is locked while it answers, and after a crash the site is shut out already.
    Done again, it ends the same.
    """
    await parts.broker.revoke_client(ClientId(client.id), client.queue)
    await clients.revoke(tx, client.id)
    await users.revoke(tx, client.id)
    for training in await trainings.unfinished_with(tx, client.id):
        await _leave(tx, training, ClientId(client.id))


async def _leave(tx: AsyncConnection, training: Found, client: ClientId) -> None:
    if trainings.stage_of(training) is Stage.OPEN:
        await trainings.remove_participants(tx, training.id, [client])
        return
    gone = RemoveParticipants(training_id=TrainingId(training.id), clients=(client,), reason=_REVOKED)
    await orders.place(tx, gone)


async def _admit(parts: Parts, client: ClientId, queue: str) -> Credentials:
    password = new_password()
    await parts.broker.enrol_client(client, password, queue)
    url = URL(parts.settings.agents_amqp_url).with_user(str(client)).with_password(password)
    return Credentials(client_id=client, amqp_url=str(url), queue=queue)
