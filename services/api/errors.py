"""How a no, and a fault, become an answer."""

import logging
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, ClassVar
from uuid import UUID

import asyncpg
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolExhausted
from starlette.exceptions import HTTPException

from infra.broker.admin import AdministrationRefused
from infra.broker.errors import BrokerFault
from infra.objects.errors import ObjectMissing, ObjectStoreUnavailable
from schemas.refusal import Refusal

log = logging.getLogger(__name__)

_RETRY_AFTER_S = "2"
_FAULTS = (
    *(BrokerFault, AdministrationRefused),
    *(ObjectStoreUnavailable, ObjectMissing),
    *(PoolExhausted, asyncpg.PostgresError, asyncpg.InterfaceError, OSError),  # OSError: nobody listens there
)
_BAD_VALUE = "22"  # the SQLSTATE class of values a column cannot hold
_BROKEN_LINK = "23"  # … of rows that refer to what has just gone, or are there already


class ApiRefusal(Refusal):
    status: ClassVar[int] = HTTPStatus.BAD_REQUEST


class Conflict(ApiRefusal):
    """What was asked for does not go with how things stand."""

    status: ClassVar[int] = HTTPStatus.CONFLICT
    code: ClassVar[str] = "conflict"


class NotFound(ApiRefusal):
    """Also the answer to who may not know that it exists."""

    status: ClassVar[int] = HTTPStatus.NOT_FOUND
    code: ClassVar[str] = "not_found"

    def __init__(self, kind: str, id_: UUID | str) -> None:
        super().__init__(f"no {kind} {id_}")


class Forbidden(ApiRefusal):
    status: ClassVar[int] = HTTPStatus.FORBIDDEN
    code: ClassVar[str] = "forbidden"


class Unauthenticated(ApiRefusal):
    status: ClassVar[int] = HTTPStatus.UNAUTHORIZED
    code: ClassVar[str] = "unauthenticated"


class Overloaded(ApiRefusal):
    status: ClassVar[int] = HTTPStatus.SERVICE_UNAVAILABLE
    code: ClassVar[str] = "overloaded"


class BadInput(ApiRefusal):
    """`fields` says what is wrong with each."""

    code: ClassVar[str] = "bad_input"

    def __init__(self, fields: dict[str, list[str]]) -> None:
        self.fields = fields
        super().__init__("; ".join(f"{name}: {' '.join(faults)}" for name, faults in fields.items())[:2_000])

    @classmethod
    def told_by(cls, error: ValidationError) -> "BadInput":
        return cls(_by_field(error.errors(include_url=False, include_input=False, include_context=False)))


class UnknownClients(ApiRefusal):
    code: ClassVar[str] = "unknown_clients"

    def __init__(self, ids: Iterable[UUID], why: str) -> None:
        self.ids = sorted(ids)
        shown = ", ".join(map(str, self.ids[:3]))
        more = f" and {len(self.ids) - 3} more" if len(self.ids) > 3 else ""
        super().__init__(f"{why}: {shown}{more}")


def install(app: FastAPI) -> None:
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(DBAPIError, _database)
    for fault in _FAULTS:
        app.add_exception_handler(fault, _fault)
    app.add_exception_handler(Exception, _bug)


async def _refused(_: Request, refusal: Exception) -> JSONResponse:
    assert isinstance(refusal, Refusal)
    status = refusal.status if isinstance(refusal, ApiRefusal) else HTTPStatus.BAD_REQUEST
    fields: dict[str, Any] = refusal.fields if isinstance(refusal, BadInput) else {}
    return answer(status, str(refusal), refusal.code, **fields)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    """A path that holds no id names nothing that exists."""
    assert isinstance(error, RequestValidationError)
    if any(fault["loc"][0] == "path" for fault in error.errors()):
        return answer(HTTPStatus.NOT_FOUND, "there is nothing with such an id", NotFound.code)
    return await _refused(_, BadInput(_by_field(error.errors(), skip=1)))


async def _http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
    response = answer(error.status_code, str(error.detail), code)
    response.headers.update(error.headers or {})
    return response


async def _database(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, DBAPIError)
    state = getattr(error.orig, "sqlstate", None) or ""
    if state.startswith(_BAD_VALUE) or isinstance(error.orig, ValueError | OverflowError):
        return answer(
            HTTPStatus.BAD_REQUEST, "a value holds characters or a size that cannot be kept", "bad_input"
        )
    if state.startswith(_BROKEN_LINK):
        return answer(HTTPStatus.CONFLICT, "what this refers to has just changed; look again", Conflict.code)
    return await _fault(request, error)


async def _bug(_: Request, __: Exception) -> JSONResponse:
    """The server logs it."""
    return answer(HTTPStatus.INTERNAL_SERVER_ERROR, "this is a mistake of ours, and was recorded", "bug")


async def _fault(request: Request, error: Exception) -> JSONResponse:
    log.error("request failed", extra={"path": request.url.path}, exc_info=error)
    status = HTTPStatus.SERVICE_UNAVAILABLE
    return answer(status, "a server this one needs does not answer; try again soon", "unavailable")


def answer(status: int, detail: str, code: str, **fields: Any) -> JSONResponse:
    headers = {}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Token"
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = _RETRY_AFTER_S
    return JSONResponse({**fields, "detail": detail, "code": code}, status_code=status, headers=headers)


def _by_field(faults: Iterable[ErrorDetails | dict[str, Any]], skip: int = 0) -> dict[str, list[str]]:
    """Messages under the name of the field they are about; `body` where it is none of them."""
    found: dict[str, list[str]] = {}
    for fault in faults:
        name = ".".join(map(str, fault["loc"][skip:])) or "body"
        if len(found) < 20:
            found.setdefault(name[:100], []).append(str(fault["msg"])[:500])
    return found
