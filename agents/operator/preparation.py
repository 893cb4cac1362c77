"""Makes servers ready for Warren's services: topology and logins, tables, bucket."""

import asyncio

from pydantic import SecretStr

from agents.operator.logins import Logins
from infra.broker.admin import BrokerAdmin
from infra.broker.permissions import hashed
from infra.broker.topology import Definitions, definitions
from infra.objects.minio_objects import MinioObjects
from infra.objects.settings import ObjectStoreSettings
from infra.stack.record import Endpoints, RabbitAddress, S3Address
from schemas.routing import Role


async def prepare(endpoints: Endpoints, logins: Logins) -> None:
    """May be repeated: the second time changes nothing."""
    await asyncio.gather(
        declare(endpoints.rabbit, logins),
        _migrate(endpoints.postgres.url),
        asyncio.to_thread(_make_bucket, endpoints.s3),
    )


async def declare(rabbit: RabbitAddress, logins: Logins) -> None:
    async with broker_admin(rabbit) as admin:
        await admin.declare(wanted(logins))


async def check(rabbit: RabbitAddress, logins: Logins) -> tuple[str, ...]:
    async with broker_admin(rabbit) as admin:
        return await admin.check(wanted(logins))


def wanted(logins: Logins) -> Definitions:
    return definitions({Role.SCHEDULER: hashed(logins.scheduler), Role.AGGREGATOR: hashed(logins.aggregator)})


def broker_admin(rabbit: RabbitAddress) -> BrokerAdmin:
    return BrokerAdmin(rabbit.management_url, rabbit.user, rabbit.password)


async def _migrate(url: str) -> None:
    from infra.database.migrate import upgrade  # noqa: PLC0415 - a site without a database has no Alembic

    await upgrade(url)


def _make_bucket(s3: S3Address) -> None:
    MinioObjects(
        ObjectStoreSettings(
            url=s3.url, access_key=s3.access_key, secret_key=SecretStr(s3.secret_key), bucket=s3.bucket
        )
    ).make_bucket()
