"""What happens to every request before a route sees it."""

from collections.abc import MutableMapping
from http import HTTPStatus
from typing import Any, ClassVar

from starlette.types import ASGIApp, Receive, Scope, Send

from services.api.errors import ApiRefusal, answer

UPLOADS = ("POST", "/api/models/")  # the one place where bodies are large


class BodyTooLarge(ApiRefusal):
    status: ClassVar[int] = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    code: ClassVar[str] = "body_too_large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"the body has more than the {limit} bytes that are taken here")


class EndingSlash:
    """Serves a path without its ending slash like the one with it: a redirect makes a GET of a POST."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/api/"):
            scope = {**scope, "path": scope["path"].rstrip("/") + "/"}
        await self._app(scope, receive, send)


class BodyLimit:
    """Refuses a body by its announced length before it is read, and any other once it has grown too long."""

    def __init__(self, app: ASGIApp, *, ordinary: int, uploads: int) -> None:
        self._app = app
        self._ordinary = ordinary
        self._uploads = uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._uploads if (scope["method"], scope["path"]) == UPLOADS else self._ordinary
        if _announced(scope) > limit:
            refusal = BodyTooLarge(limit)
            await answer(refusal.status, str(refusal), refusal.code)(scope, receive, send)
            return
        await self._app(scope, _limited(receive, limit), send)


def _announced(scope: Scope) -> int:
    length = dict(scope["headers"]).get(b"content-length", b"0")
    return int(length) if length.isdigit() else 0


def _limited(receive: Receive, limit: int) -> Receive:
    received = 0

    async def counted() -> MutableMapping[str, Any]:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise BodyTooLarge(limit)
        return message

    return counted
