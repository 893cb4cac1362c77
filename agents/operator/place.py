"""Finds the Warren a command is about: the one the environment names, else the one under `--dir`."""

from collections.abc import Callable
from pathlib import Path

import httpx

from agents.operator import services
from agents.operator.deployment import Deployment
from agents.operator.errors import NothingRunning
from agents.operator.rest import Api, TokenAuth
from agents.operator.settings import read_settings
from infra.stack import processes

ADMIN = "admin"


def api(root: Path, patience_s: float = 0.0) -> Api:
    settings = read_settings()
    if settings.api_url:
        token = settings.api_token.get_secret_value() if settings.api_token else ""
        return Api(settings.api_url, TokenAuth(token), patience_s)
    deployment = Deployment.find(root)
    if not processes.is_running("api", deployment.root):
        raise NothingRunning(root)
    return api_of(deployment, patience_s)


def api_of(
    deployment: Deployment, patience_s: float = 0.0, meanwhile: Callable[[], None] = lambda: None
) -> Api:
    """As its administrator."""
    logins = deployment.logins
    return Api(services.api_url(logins), httpx.BasicAuth(ADMIN, logins.admin), patience_s, meanwhile)


def broker_url(root: Path) -> str:
    settings = read_settings()
    if settings.broker_url:
        return settings.broker_url.get_secret_value()
    return services.admin_broker_url(running(root, "rabbitmq").endpoints)


def database_url(root: Path) -> str:
    settings = read_settings()
    if settings.database_url:
        return settings.database_url.get_secret_value()
    return running(root, "postgres").endpoints.postgres.url


def worker_environment(root: Path) -> dict[str, str]:
    """The settings by which an aggregator worker finds the objects."""
    settings = read_settings()
    if settings.s3_url:
        told = {
            "S3_URL": settings.s3_url,
            "S3_ACCESS_KEY": settings.s3_access_key,
            "S3_SECRET_KEY": settings.s3_secret_key.get_secret_value(),
            "S3_BUCKET": settings.s3_bucket,
        }
        return {f"WARREN_AGGREGATOR_{name}": value for name, value in told.items()}
    deployment = running(root, "s3")
    return services.environment(services.AGGREGATOR, deployment.endpoints, deployment.logins)


def running(root: Path, server: str) -> Deployment:
    """The one under `root`, of which that server must run."""
    deployment = Deployment.find(root)
    if not deployment.stack.running()[server]:
        raise NothingRunning(root)
    return deployment
