"""Starts, aborts and deletes trainings.  Every function is called with the training's row locked."""

import json
from typing import ClassVar
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.commands import AbortTraining, AddParticipants, RemoveParticipants, StartTraining
from schemas.ids import ClientId, ModelId, TrainingId
from schemas.message import MAX_CLIENTS
from schemas.plan import Plan
from services.api import orders
from services.api.authorisation import Caller
from services.api.errors import BadInput, Conflict, UnknownClients
from services.api.plans import fault_of_weights
from services.api.states import Stage
from services.api.store import clients, models, trainings
from services.api.store.rows import Found


class AlreadyStarted(Conflict):
    code: ClassVar[str] = "already_started"

    def __init__(self, training_id: UUID) -> None:
        super().__init__(f"training {training_id} was started before; create another one to train again")


class TrainingOver(Conflict):
    code: ClassVar[str] = "training_over"

    def __init__(self, training: Found) -> None:
        super().__init__(f"training {training.id} is over ({training.state}); nothing about it can change")


class StillRunning(Conflict):
    code: ClassVar[str] = "still_running"

    def __init__(self, training_id: UUID) -> None:
        super().__init__(f"training {training_id} is running; abort it first")


class TooFewClients(Conflict):
    code: ClassVar[str] = "too_few_clients"

    def __init__(self, plan: Plan, there_are: int) -> None:
        self.needed = plan.quorum
        by_strategy = plan.strategy.least_updates == plan.quorum > 1
        why = f"strategy {plan.strategy.name}" if by_strategy else "participation.min_clients"
        super().__init__(f"{why} needs at least {self.needed} clients, and the training has {there_are}")


class WeightsDoNotFit(Conflict):
    code: ClassVar[str] = "weights_do_not_fit"

    def __init__(self, fault: str) -> None:
        super().__init__(f"strategy.client_weights: {fault}")


class ClientsNotEnrolled(Conflict, UnknownClients):
    code: ClassVar[str] = "clients_not_enrolled"


async def start(tx: AsyncConnection, caller: Caller, training: Found) -> None:
    match trainings.stage_of(training):
        case Stage.UNDER_WAY:
            raise AlreadyStarted(training.id)
        case Stage.OVER:
            raise TrainingOver(training)
        case Stage.OPEN:
            order = await _start_order(tx, caller, training)
    await trainings.request_start(tx, training.id)
    await orders.place(tx, order)


async def abort(tx: AsyncConnection, training: Found, reason: str) -> None:
    match trainings.stage_of(training):
        case Stage.OPEN:
            await trainings.abort_unstarted(tx, training.id, reason)
        case Stage.UNDER_WAY:
            await orders.place(tx, AbortTraining(training_id=TrainingId(training.id), reason=reason))
        case Stage.OVER:
            raise TrainingOver(training)


async def delete(tx: AsyncConnection, training: Found) -> None:
    if trainings.stage_of(training) is Stage.UNDER_WAY:
        raise StillRunning(training.id)
    await trainings.remove(tx, training.id)


async def add_clients(tx: AsyncConnection, training: Found, asked: tuple[ClientId, ...]) -> None:
    """Into a running training they come with the next round."""
    _require_changeable(training)
    await require_enrolled(tx, asked)
    new = tuple(sorted(set(asked) - set(training.participants)))
    if len(training.participants) + len(new) > MAX_CLIENTS:
        raise BadInput({"clients": [f"a training has at most {MAX_CLIENTS}"]})
    if trainings.stage_of(training) is Stage.OPEN:
        await trainings.add_participants(tx, training.id, new)
    elif new:
        await orders.place(tx, AddParticipants(training_id=TrainingId(training.id), clients=new))


async def remove_clients(tx: AsyncConnection, training: Found, asked: tuple[ClientId, ...]) -> None:
    """A running training goes on without them."""
    _require_changeable(training)
    strangers = set(asked) - set(training.participants)
    if strangers:
        raise UnknownClients(strangers, "not clients of this training")
    gone = tuple(sorted(set(asked)))
    if trainings.stage_of(training) is Stage.OPEN:
        await trainings.remove_participants(tx, training.id, gone)
    else:
        reason = "removed by the training's owner"
        order = RemoveParticipants(training_id=TrainingId(training.id), clients=gone, reason=reason)
        await orders.place(tx, order)


async def require_enrolled(tx: AsyncConnection, asked: tuple[ClientId, ...]) -> None:
    unknown = await clients.not_enrolled(tx, asked)
    if unknown:
        raise UnknownClients(unknown, "no enrolled clients have these ids")


async def _start_order(tx: AsyncConnection, caller: Caller, training: Found) -> StartTraining:
    plan = Plan.model_validate_json(json.dumps(training.plan))
    members = tuple(ClientId(client) for client in sorted(training.participants))
    if len(members) < plan.quorum:
        raise TooFewClients(plan, len(members))
    if fault := fault_of_weights(plan, members):
        raise WeightsDoNotFit(fault)
    gone = await clients.not_enrolled(tx, members)
    if gone:
        raise ClientsNotEnrolled(gone, "these clients are not enrolled any more; remove them first")
    model = models.ref_of(await models.get(tx, caller, ModelId(training.model_id)))
    return StartTraining(training_id=TrainingId(training.id), plan=plan, model=model, participants=members)


def _require_changeable(training: Found) -> None:
    if trainings.stage_of(training) is Stage.OVER:
        raise TrainingOver(training)
