"""Enrolled sites: who is there, and who is not to come back."""

from http import HTTPStatus
from typing import ClassVar
from uuid import UUID

from fastapi import APIRouter

from schemas.ids import UserId
from services.api import answers, enrolment
from services.api.authorisation import Action, Kind, Thing, require
from services.api.dependencies import CallerDep, PartsDep
from services.api.errors import Conflict
from services.api.store import clients

router = APIRouter(prefix="/api/clients", tags=["clients"])


class ClientRevoked(Conflict):
    code: ClassVar[str] = "client_revoked"

    def __init__(self, client: UUID) -> None:
        super().__init__(f"client {client} was revoked; enrol a new one")


@router.get("/")
async def every(parts: PartsDep, _: CallerDep) -> list[answers.Client]:
    """With their presence, as their heartbeats tell it."""
    async with parts.reading() as tx:
        return [answers.Client.model_validate(row) for row in await clients.every(tx)]


@router.get("/{client_id}/")
async def one(client_id: UUID, parts: PartsDep, _: CallerDep) -> answers.Client:
    async with parts.reading() as tx:
        return answers.Client.model_validate(await clients.get(tx, client_id))


@router.post("/{client_id}/credentials/", status_code=HTTPStatus.CREATED)
async def renew_credentials(client_id: UUID, parts: PartsDep, caller: CallerDep) -> answers.Credentials:
    """A new broker password, shown this once; the earlier one is void.  The queue stays."""
    async with parts.database.begin() as tx:
        await clients.take_turn(tx, client_id)
        row = await clients.get(tx, client_id)
        require(caller, Action.CHANGE, _thing(client_id))
        if row.revoked_at:
            raise ClientRevoked(client_id)
        return await enrolment.renew(parts, row)


@router.delete("/{client_id}/")
async def revoke(client_id: UUID, parts: PartsDep, caller: CallerDep) -> answers.Done:
    """Its logins are void, its queue is gone, and its trainings go on without it."""
    async with parts.database.begin() as tx:
        await clients.take_turn(tx, client_id)
        row = await clients.get(tx, client_id)
        require(caller, Action.DELETE, _thing(client_id))
        await enrolment.revoke(tx, parts, row)
    return answers.Done(detail="client revoked")


def _thing(client_id: UUID) -> Thing:
    return Thing(Kind.CLIENT, client_id, UserId(client_id))
