"""Puts the API together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse

from infra.broker.admin import BrokerAdmin
from infra.database.engine import connect
from infra.objects.minio_objects import MinioObjects
from infra.plugins import load_rules
from schemas.ids import UserId
from services.api import errors
from services.api.credentials import Passwords
from services.api.middleware import BodyLimit, EndingSlash
from services.api.openapi import documented
from services.api.parts import Parts
from services.api.routes import clients, health, models, strategies, trainings, uploads, users
from services.api.settings import Settings
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
        lifespan=_lifespan,
    )
    app.state.parts = parts or _real_parts(settings)
    for routes in (users, clients, models, uploads, strategies, trainings, health):
        app.include_router(routes.router)
    app.add_api_route(f"{_SCHEMA}swagger-ui/", _swagger, include_in_schema=False)
    app.add_middleware(BodyLimit, ordinary=settings.max_json_bytes, uploads=settings.max_model_bytes)
    app.add_middleware(EndingSlash)  # the last one added is the first to see a request
    app.openapi = documented(app)  # type: ignore[method-assign] # FastAPI's own way to extend the document
    errors.install(app)
    return app


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
        rules=load_rules(settings.strategies),
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
