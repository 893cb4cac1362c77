"""Trainings: planned, started, aborted and looked at."""

from http import HTTPStatus
from typing import Annotated, Literal
from uuid import UUID, uuid4

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.ids import TrainingId
from services.api import answers, lifecycle
from services.api.authorisation import Action, Caller, require
from services.api.bodies import Abort, ClientList, NewTraining, body_of, described_by
from services.api.dependencies import CallerDep, PartsDep
from services.api.errors import BadInput
from services.api.plans import fault_of_weights, plan_of
from services.api.store import models, trainings
from services.api.store.rows import Found
from services.api.views import training_view

router = APIRouter(prefix="/api/trainings", tags=["trainings"])

MAX_INT = 2**31 - 1
Role = Literal["owner", "participant", "any"]
_LISTS = {
    "owner": trainings.owned_by,
    "participant": trainings.taken_part_in_by,
    "any": trainings.related_to,
}


@router.get("/")
async def every(parts: PartsDep, caller: CallerDep, role: Role = "owner") -> list[answers.Training]:
    """My own; with `role` those I take part in, or both.  `any` is all there are for the administrator."""
    listed = trainings.every if caller.admin and role == "any" else _LISTS[role]
    async with parts.reading() as tx:
        return [training_view(row) for row in await listed(tx, caller)]


@router.post("/", status_code=HTTPStatus.CREATED, openapi_extra=described_by(NewTraining))
async def create(
    parts: PartsDep, caller: CallerDep, told: Annotated[NewTraining, Depends(body_of(NewTraining))]
) -> answers.TrainingCreated:
    """A model that is, or was, in a training is cloned."""
    plan, training_id = plan_of(told, parts.rules), TrainingId(uuid4())
    if told.clients and (fault := fault_of_weights(plan, told.clients)):
        raise BadInput({"strategy.client_weights": [fault]})
    async with parts.database.begin() as tx:
        row = await models.get(tx, caller, told.model_id, lock=True)
        require(caller, Action.USE, models.thing(row))
        await lifecycle.require_enrolled(tx, told.clients)
        fresh = row.training is None and row.version == 0
        model = told.model_id if fresh else (await models.clone(tx, row)).model_id
        await trainings.add(tx, training_id, told, plan, owner=caller.id, model=model)
    return answers.TrainingCreated(detail="training created", training_id=training_id)


@router.get("/{training_id}/")
async def one(training_id: UUID, parts: PartsDep, caller: CallerDep) -> answers.Training:
    async with parts.reading() as tx:
        return training_view(await _permitted(tx, caller, training_id, Action.READ))


@router.delete("/{training_id}/")
async def delete(training_id: UUID, parts: PartsDep, caller: CallerDep) -> answers.Done:
    """With its events and rounds; the model stays."""
    async with parts.database.begin() as tx:
        await lifecycle.delete(tx, await _locked(tx, caller, training_id, Action.DELETE))
    return answers.Done(detail="training deleted")


@router.post("/{training_id}/start/", status_code=HTTPStatus.ACCEPTED)
async def start(training_id: UUID, parts: PartsDep, caller: CallerDep) -> answers.Done:
    async with parts.database.begin() as tx:
        await lifecycle.start(tx, caller, await _locked(tx, caller, training_id))
    return answers.Done(detail="training is starting")


@router.post("/{training_id}/abort/", status_code=HTTPStatus.ACCEPTED, openapi_extra=described_by(Abort))
async def abort(
    training_id: UUID,
    parts: PartsDep,
    caller: CallerDep,
    told: Annotated[Abort, Depends(body_of(Abort, optional=True))],
) -> answers.Done:
    async with parts.database.begin() as tx:
        await lifecycle.abort(tx, await _locked(tx, caller, training_id), told.reason)
    return answers.Done(detail="training is aborting")


@router.put(
    "/{training_id}/clients/", status_code=HTTPStatus.ACCEPTED, openapi_extra=described_by(ClientList)
)
async def add_clients(
    training_id: UUID,
    parts: PartsDep,
    caller: CallerDep,
    told: Annotated[ClientList, Depends(body_of(ClientList))],
) -> answers.Done:
    async with parts.database.begin() as tx:
        await lifecycle.add_clients(tx, await _locked(tx, caller, training_id), told.clients)
    return answers.Done(detail="clients added")


@router.delete("/{training_id}/clients/", openapi_extra=described_by(ClientList))
async def remove_clients(
    training_id: UUID,
    parts: PartsDep,
    caller: CallerDep,
    told: Annotated[ClientList, Depends(body_of(ClientList))],
) -> answers.Done:
    async with parts.database.begin() as tx:
        await lifecycle.remove_clients(tx, await _locked(tx, caller, training_id), told.clients)
    return answers.Done(detail="clients removed")


@router.get("/{training_id}/rounds/")
async def rounds(training_id: UUID, parts: PartsDep, caller: CallerDep) -> list[answers.Round]:
    async with parts.reading() as tx:
        await _permitted(tx, caller, training_id, Action.READ)
        return [answers.Round.model_validate(row) for row in await trainings.rounds_of(tx, training_id)]


@router.get("/{training_id}/events/", response_class=Response)
async def events(
    training_id: UUID,
    parts: PartsDep,
    caller: CallerDep,
    after: Annotated[int, Query(ge=0, le=MAX_INT)] = 0,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 1_000,
) -> Response:
    """The training's CloudEvents with a sequence beyond `after`, as they were published."""
    async with parts.reading() as tx:
        await _permitted(tx, caller, training_id, Action.READ)
        envelopes = await trainings.events_of(tx, training_id, after, limit)
    return Response(b"[" + b",".join(envelopes) + b"]", media_type="application/json")


@router.get("/{training_id}/models/")
@router.get("/{training_id}/models/latest/")
async def models_of(training_id: UUID, parts: PartsDep, caller: CallerDep) -> list[answers.Model]:
    """The training's model; clients' updates are not models here."""
    async with parts.reading() as tx:
        row = await _permitted(tx, caller, training_id, Action.READ)
        return [answers.Model.model_validate(await models.get(tx, caller, row.model_id))]


async def _permitted(tx: AsyncConnection, caller: Caller, id_: UUID, action: Action) -> Found:
    row = await trainings.get(tx, caller, id_)
    require(caller, action, trainings.thing(row))
    return row


async def _locked(tx: AsyncConnection, caller: Caller, id_: UUID, action: Action = Action.CHANGE) -> Found:
    """Nobody else changes the training until the transaction ends."""
    row = await trainings.get(tx, caller, id_, lock=True)
    require(caller, action, trainings.thing(row))
    return row
