"""Users: who they are, and how they prove it."""

from http import HTTPStatus
from typing import Annotated, ClassVar
from uuid import UUID, uuid4

from fastapi import APIRouter, Depends, Request

from schemas.ids import ClientId, UserId
from services.api import answers, enrolment
from services.api.authorisation import Action, Kind, Thing, permits, require
from services.api.bodies import NewUser, PasswordChange, body_of, described_by
from services.api.credentials import digest, new_token
from services.api.dependencies import CallerDep, PartsDep, authenticate
from services.api.errors import Conflict, Forbidden
from services.api.parts import Parts
from services.api.store import trainings, users
from services.api.views import training_view

router = APIRouter(prefix="/api/users", tags=["users"])


class IdsAreGiven(Forbidden):
    code: ClassVar[str] = "ids_are_given"

    def __init__(self) -> None:
        super().__init__("this server gives ids itself; leave `id` out")


class IsASite(Conflict):
    code: ClassVar[str] = "is_a_site"

    def __init__(self, user: UUID) -> None:
        super().__init__(f"user {user} is a site; revoke it under /api/clients/{user}/")


class RegistrationClosed(Forbidden):
    code: ClassVar[str] = "registration_closed"

    def __init__(self) -> None:
        super().__init__("only the administrator makes users here")


@router.post("/", status_code=HTTPStatus.CREATED, openapi_extra=described_by(NewUser))
async def create(
    request: Request, parts: PartsDep, told: Annotated[NewUser, Depends(body_of(NewUser))]
) -> answers.EnrolledNewcomer | answers.Newcomer:
    """Become a user.  With `client: true` also enrol a site, whose credentials are shown this once."""
    await _require_registration(parts, request.headers.get("Authorization"))
    if told.id and not (told.client and parts.settings.choose_ids):
        raise IdsAreGiven()
    user_id, token = UserId(told.id or uuid4()), new_token()
    password_hash = await parts.passwords.hash(told.password)
    async with parts.database.begin() as tx:
        values = told.model_dump(exclude={"id", "password"})
        row = await users.add(tx, id=user_id, password_hash=password_hash, **values)
        await users.replace_token(tx, user_id, digest(token))
        credentials = await enrolment.enrol(tx, parts, ClientId(user_id)) if told.client else None
    user = answers.User.model_validate(row).model_dump()
    if credentials is None:
        return answers.Newcomer(**user, token=token)
    return answers.EnrolledNewcomer(**user, token=token, credentials=credentials)


@router.get("/")
async def every(parts: PartsDep, _: CallerDep) -> list[answers.PublicUser]:
    async with parts.reading() as tx:
        return [answers.PublicUser.model_validate(row) for row in await users.every(tx)]


@router.get("/myself/")
async def myself(parts: PartsDep, caller: CallerDep) -> answers.User:
    async with parts.reading() as tx:
        return answers.User.model_validate(await users.get(tx, caller.id))


@router.post("/myself/token/", status_code=HTTPStatus.CREATED)
async def renew_token(parts: PartsDep, caller: CallerDep) -> answers.NewToken:
    """A new token, shown this once; the earlier one is void."""
    token = new_token()
    async with parts.database.begin() as tx:
        await users.replace_token(tx, caller.id, digest(token))
    return answers.NewToken(token=token)


@router.post("/myself/password/", openapi_extra=described_by(PasswordChange))
async def change_password(
    parts: PartsDep, caller: CallerDep, told: Annotated[PasswordChange, Depends(body_of(PasswordChange))]
) -> answers.Done:
    password_hash = await parts.passwords.hash(told.password)
    async with parts.database.begin() as tx:
        await users.set_password(tx, caller.id, password_hash)
    return answers.Done(detail="password changed")


@router.get("/trainings/")
async def my_trainings(parts: PartsDep, caller: CallerDep) -> list[answers.Training]:
    """Those I own and those I take part in."""
    async with parts.reading() as tx:
        return [training_view(row) for row in await trainings.related_to(tx, caller)]


@router.get("/{user_id}/")
async def one(user_id: UUID, parts: PartsDep, caller: CallerDep) -> answers.User | answers.PublicUser:
    """Others see neither e-mail nor endpoint."""
    async with parts.reading() as tx:
        row = await users.get(tx, user_id)
    knows = permits(caller, Action.READ_PRIVATE, Thing(Kind.USER, user_id, UserId(user_id)))
    return (answers.User if knows else answers.PublicUser).model_validate(row)


@router.delete("/{user_id}/")
async def revoke(user_id: UUID, parts: PartsDep, caller: CallerDep) -> answers.Done:
    """Password and token are void at once; models and trainings stay.  A site is revoked as one."""
    async with parts.database.begin() as tx:
        row = await users.get(tx, user_id)
        require(caller, Action.DELETE, Thing(Kind.USER, user_id, UserId(user_id)))
        if row.client:
            raise IsASite(user_id)
        await users.revoke(tx, user_id)
    return answers.Done(detail="user revoked")


async def _require_registration(parts: Parts, header: str | None) -> None:
    if parts.settings.open_registration:
        return
    caller = await authenticate(parts, header)
    if not caller.admin:
        raise RegistrationClosed()
