"""The processes of Warren's services on a private stack: what to run, with which settings."""

import sys
from collections.abc import Mapping

import httpx

from agents.operator.logins import Logins
from infra.broker.topology import VHOST
from infra.stack.processes import Program
from infra.stack.record import HOST, Endpoints

AGGREGATOR = "aggregator"


def programs(
    endpoints: Endpoints, logins: Logins, aggregators: int, inherited: Mapping[str, str]
) -> tuple[Program, ...]:
    """The API, the scheduler, and so many aggregator workers."""
    api, scheduler, aggregator = (
        {**inherited, **environment(service, endpoints, logins)} for service in ENVIRONMENTS
    )
    port = logins.api_port
    return (
        Program("api", _module("api"), api, is_ready=lambda: _is_ready(port)),
        Program("scheduler", _module("scheduler"), scheduler, is_ready=_at_once),
        *(
            Program(f"{AGGREGATOR}-{number}", _module(AGGREGATOR), aggregator, is_ready=_at_once)
            for number in range(1, aggregators + 1)
        ),
    )


def environment(service: str, endpoints: Endpoints, logins: Logins) -> dict[str, str]:
    """The service's settings as its `settings.py` names them."""
    prefix = f"WARREN_{service.upper()}_"
    settings = {**_object_store(endpoints), **ENVIRONMENTS[service](endpoints, logins)}
    return {f"{prefix}{name}": value for name, value in settings.items()}


def api_url(logins: Logins) -> str:
    return f"http://{HOST}:{logins.api_port}"


def broker_url(endpoints: Endpoints, login: str, password: str) -> str:
    rabbit = endpoints.rabbit
    return f"amqp://{login}:{password}@{rabbit.host}:{rabbit.port}/{VHOST}"


def admin_broker_url(endpoints: Endpoints) -> str:
    return broker_url(endpoints, endpoints.rabbit.user, endpoints.rabbit.password)


def _api(endpoints: Endpoints, logins: Logins) -> dict[str, str]:
    rabbit = endpoints.rabbit
    return {
        "HOST": HOST,
        "PORT": str(logins.api_port),
        "DATABASE_URL": endpoints.postgres.url,
        "AGENTS_AMQP_URL": f"amqp://{rabbit.host}:{rabbit.port}/{VHOST}",
        "ADMIN_PASSWORD": logins.admin,
        "CHOOSE_IDS": "true",  # the demo's sites have the same ids in every run
        **_management(endpoints),
    }


def _scheduler(endpoints: Endpoints, logins: Logins) -> dict[str, str]:
    return {
        "BROKER_URL": broker_url(endpoints, "scheduler", logins.scheduler),
        "DATABASE_URL": endpoints.postgres.url,
        **_management(endpoints),
    }


def _aggregator(endpoints: Endpoints, logins: Logins) -> dict[str, str]:
    return {"BROKER_URL": broker_url(endpoints, "aggregator", logins.aggregator)}


ENVIRONMENTS = {"api": _api, "scheduler": _scheduler, AGGREGATOR: _aggregator}


def _object_store(endpoints: Endpoints) -> dict[str, str]:
    s3 = endpoints.s3
    return {
        "S3_URL": s3.url,
        "S3_ACCESS_KEY": s3.access_key,
        "S3_SECRET_KEY": s3.secret_key,
        "S3_BUCKET": s3.bucket,
    }


def _management(endpoints: Endpoints) -> dict[str, str]:
    rabbit = endpoints.rabbit
    return {
        "MANAGEMENT_URL": rabbit.management_url,
        "MANAGEMENT_USER": rabbit.user,
        "MANAGEMENT_PASSWORD": rabbit.password,
    }


def _module(service: str) -> tuple[str, ...]:
    return (sys.executable, "-m", f"services.{service}")


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://{HOST}:{port}/health/ready", timeout=3, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _at_once() -> bool:
    """Whether it consumes is asked of the broker, for all workers together."""
    return True
