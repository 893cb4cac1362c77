"""Puts the API together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from infra.broker.admin import BrokerAdmin
from infra.database.engine import connect
from infra.objects.minio_objects import MinioObjects
from schemas.ids import UserId
from services.api import errors
from services.api.credentials import Passwords
from services.api.parts import Parts
from services.api.routes import clients, health, models, trainings, uploads, users
from services.api.settings import MIB, Settings
from services.api.store.users import ensure_admin

_SCHEMA = "/api/schema/"


def create_app(settings: Settings, parts: Parts | None = None) -> FastAPI:
    app = FastAPI(
        title="Warren",
        version="1",
        openapi_url=_SCHEMA,
        docs_url="/docs",
        redoc_url=f"{_SCHEMA}redoc/",
        redirect_slashes=False,
        max_body_size=settings.max_json_bytes,
        lifespan=_lifespan,
    )
    app.state.parts = parts or _real_parts(settings)
    for routes in (users, clients, models, trainings, health):
        app.include_router(routes.router)
    app.include_router(uploads.router, max_body_size=settings.max_model_bytes + MIB)
    app.add_api_route(f"{_SCHEMA}swagger-ui/", _swagger, include_in_schema=False)
    app.add_middleware(EndingSlash)
    errors.install(app)
    return app


class EndingSlash:
    """Serves a path without its ending slash like the one with it: a redirect makes a GET of a POST."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/api/"):
            scope = {**scope, "path": scope["path"].rstrip("/") + "/"}
        await self._app(scope, receive, send)


def _real_parts(settings: Settings) -> Parts:
    return Parts(
        settings=settings,
        database=connect(settings.database_url.get_secret_value(), pool_size=settings.database_pool),
        files=MinioObjects(settings.objects),
        broker=BrokerAdmin(
            settings.management_url,
            settings.management_user,
            settings.management_password.get_secret_value(),
            settings.vhost,
        ),
        passwords=Passwords(settings.verified_for_s),
    )


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    parts: Parts = app.state.parts
    await _make_admin(parts)
    yield
    await parts.broker.close()
    await parts.database.dispose()


async def _make_admin(parts: Parts) -> None:
    settings = parts.settings
    if settings.admin_password is None:
        return
    password_hash = await parts.passwords.hash(settings.admin_password.get_secret_value())
    async with parts.database.begin() as tx:
        await ensure_admin(tx, UserId(uuid4()), settings.admin_username, password_hash)


async def _swagger() -> HTMLResponse:
    return get_swagger_ui_html(openapi_url=_SCHEMA, title="Warren")
