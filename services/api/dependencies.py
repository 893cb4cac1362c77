"""What routes ask for: the parts, and who is calling."""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import APIKeyHeader
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.ids import UserId
from services.api.authorisation import Caller
from services.api.credentials import Login, Token, digest, parse
from services.api.errors import Unauthenticated
from services.api.parts import Parts
from services.api.store import users
from services.api.store.rows import Found

_header = APIKeyHeader(
    name="Authorization", auto_error=False, description="`Token <token>`, or Basic with user and password"
)


def _parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


PartsDep = Annotated[Parts, Depends(_parts)]


async def _caller(parts: PartsDep, header: Annotated[str | None, Depends(_header)]) -> Caller:
    return await authenticate(parts, header)


async def authenticate(parts: Parts, header: str | None) -> Caller:
    claim = parse(header)
    async with parts.reading() as tx:
        user = await _claimed(tx, claim)
    if isinstance(claim, Login):
        stored = user.password_hash if user else None
        if not await parts.passwords.matches(claim, stored):
            user = None
    if user is None:
        raise Unauthenticated("invalid token" if isinstance(claim, Token) else "invalid username or password")
    return Caller(UserId(user.id), user.username, admin=user.admin)


async def _claimed(tx: AsyncConnection, claim: Token | Login) -> Found | None:
    match claim:
        case Token(value):
            return await users.by_token(tx, digest(value))
        case Login(username):
            return await users.by_username(tx, username)


CallerDep = Annotated[Caller, Depends(_caller)]
