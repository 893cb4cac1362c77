"""`warren install`: makes servers of one's own ready for Warren's services."""

import asyncio

from agents.operator import preparation
from agents.operator.console import tell
from agents.operator.options import AsJson
from agents.operator.settings import InstallSettings
from infra.objects.settings import ObjectStoreSettings
from infra.process import settings_from_environment


def install(as_json: AsJson = False) -> None:
    """Topology and logins, tables, bucket, on the servers that WARREN_INSTALL_… names.  May be repeated."""
    settings = settings_from_environment(InstallSettings)
    servers = preparation.Servers(
        management_url=settings.management_url,
        management_user=settings.management_user,
        management_password=settings.management_password,
        database_url=settings.database_url,
        objects=ObjectStoreSettings(
            url=settings.s3_url,
            access_key=settings.s3_access_key,
            secret_key=settings.s3_secret_key,
            bucket=settings.s3_bucket,
        ),
    )
    topology = preparation.topology_of(
        settings.scheduler_password.get_secret_value(), settings.aggregator_password.get_secret_value()
    )
    asyncio.run(preparation.prepare(servers, topology))
    tell({"installed": True}, "topology, logins, tables and bucket are as they must be", as_json=as_json)
