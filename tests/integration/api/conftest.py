"""The API on a database, a virtual host and a bucket of the tests' own."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from pydantic import SecretStr
from sqlalchemy import text

from infra.broker.admin import BrokerAdmin
from infra.broker.permissions import hashed
from infra.broker.topology import definitions
from infra.database.engine import connect
from infra.database.migrate import upgrade
from infra.stack.record import Endpoints
from schemas.routing import Role
from services.api.app import create_app
from services.api.settings import Settings
from tests.integration.api.drive import Api

ADMIN_PASSWORD = "the administrator's secret"


@pytest.fixture(scope="session")
def api_settings(stack: Endpoints) -> Iterator[Settings]:
    name = f"test_{uuid4().hex[:12]}"
    settings = _settings(stack, name)
    asyncio.run(_make(stack, settings, name))
    yield settings
    asyncio.run(_drop(stack, settings, name))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def api(api_settings: Settings) -> AsyncIterator[Api]:
    async with running(api_settings) as served:
        yield served


@asynccontextmanager
async def running(settings: Settings, **changes: Any) -> AsyncIterator[Api]:
    app = create_app(settings.model_copy(update=changes))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://api") as http,
    ):
        yield Api(http, app.state.parts)


def _settings(stack: Endpoints, name: str) -> Settings:
    rabbit, s3 = stack.rabbit, stack.s3
    return Settings(
        database_url=SecretStr(stack.postgres.url_of(name)),
        s3_url=s3.url,
        s3_access_key=s3.access_key,
        s3_secret_key=SecretStr(s3.secret_key),
        s3_bucket=s3.bucket,
        management_url=rabbit.management_url,
        management_user=rabbit.user,
        management_password=SecretStr(rabbit.password),
        vhost=name,
        agents_amqp_url=f"amqp://{rabbit.host}:{rabbit.port}/{name}",
        admin_password=SecretStr(ADMIN_PASSWORD),
        max_model_bytes=4 * 2**20,
    )


async def _make(stack: Endpoints, settings: Settings, name: str) -> None:
    await _administer(stack, f"CREATE DATABASE {name}")
    await upgrade(settings.database_url.get_secret_value())
    async with _broker(stack, name) as broker:
        logins = {role: hashed("secret") for role in (Role.API, Role.SCHEDULER, Role.AGGREGATOR)}
        await broker.declare(definitions(logins, vhost=name, partitions=1))


async def _drop(stack: Endpoints, settings: Settings, name: str) -> None:
    async with _broker(stack, settings.vhost) as broker:
        await broker.delete_vhost()
    await _administer(stack, f"DROP DATABASE {name} WITH (FORCE)")


async def _administer(stack: Endpoints, statement: str) -> None:
    engine = connect(stack.postgres.url, pool_size=1)
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(text(statement))
    await engine.dispose()


def _broker(stack: Endpoints, vhost: str) -> BrokerAdmin:
    rabbit = stack.rabbit
    return BrokerAdmin(rabbit.management_url, rabbit.user, rabbit.password, vhost, settle_s=0)
