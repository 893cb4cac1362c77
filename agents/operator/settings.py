"""What an operator may change about the `warren` command."""

import os

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

_OURS = "WARREN_"


class Settings(BaseSettings):
    """Where a stack of another machine is.  Without these, the one under `--dir` is meant."""

    model_config = SettingsConfigDict(frozen=True, env_prefix=_OURS, extra="ignore")

    api_url: str | None = Field(default=None, pattern=r"^https?://[^/?#@]+$")  # http(s)://host:port
    api_token: SecretStr | None = None
    broker_url: SecretStr | None = None  # amqp(s)://login:password@host:port/vhost, to read the event log
    database_url: SecretStr | None = None  # postgresql+asyncpg://…, to read the event table


def clean_environment() -> dict[str, str]:
    """Ours, without what is meant for a service of Warren's."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}


def full_environment() -> dict[str, str]:
    return dict(os.environ)
