"""Makes servers ready for Warren's services: topology and logins, tables, bucket."""

import asyncio

from pydantic import BaseModel, ConfigDict, SecretStr

from agents.operator.logins import Logins
from infra.broker.admin import BrokerAdmin
from infra.broker.permissions import hashed
from infra.broker.topology import Definitions, definitions
from infra.objects.minio_objects import MinioObjects
from infra.objects.settings import ObjectStoreSettings
from infra.stack.record import Endpoints, RabbitAddress
from schemas.routing import Role


class Servers(BaseModel):
    """Where RabbitMQ's management, PostgreSQL and the object store are, as their administrator sees them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    management_url: str
    management_user: str
    management_password: SecretStr
    database_url: SecretStr
    objects: ObjectStoreSettings


async def prepare(servers: Servers, topology: Definitions) -> None:
    """May be repeated: the second time changes nothing."""
    await asyncio.gather(
        _declare(servers, topology),
        _migrate(servers.database_url.get_secret_value()),
        asyncio.to_thread(MinioObjects(servers.objects).make_bucket),
    )


def servers_of(endpoints: Endpoints) -> Servers:
    rabbit, s3 = endpoints.rabbit, endpoints.s3
    return Servers(
        management_url=rabbit.management_url,
        management_user=rabbit.user,
        management_password=SecretStr(rabbit.password),
        database_url=SecretStr(endpoints.postgres.url),
        objects=ObjectStoreSettings(
            url=s3.url, access_key=s3.access_key, secret_key=SecretStr(s3.secret_key), bucket=s3.bucket
        ),
    )


async def declare(rabbit: RabbitAddress, logins: Logins) -> None:
    async with broker_admin(rabbit) as admin:
        await admin.declare(wanted(logins))


async def check(rabbit: RabbitAddress, logins: Logins) -> tuple[str, ...]:
    async with broker_admin(rabbit) as admin:
        return await admin.check(wanted(logins))


def wanted(logins: Logins) -> Definitions:
    return topology_of(logins.scheduler, logins.aggregator)


def topology_of(scheduler_password: str, aggregator_password: str) -> Definitions:
    passwords = {Role.SCHEDULER: scheduler_password, Role.AGGREGATOR: aggregator_password}
    return definitions({role: hashed(password) for role, password in passwords.items()})


def broker_admin(rabbit: RabbitAddress) -> BrokerAdmin:
    return BrokerAdmin(rabbit.management_url, rabbit.user, rabbit.password)


async def _declare(servers: Servers, topology: Definitions) -> None:
    password = servers.management_password.get_secret_value()
    async with BrokerAdmin(servers.management_url, servers.management_user, password) as admin:
        await admin.declare(topology)


async def _migrate(url: str) -> None:
    from infra.database.migrate import upgrade  # noqa: PLC0415 - a site without a database has no Alembic

    await upgrade(url)
