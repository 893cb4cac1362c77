"""What an operator may change about the `warren` command."""

import os
from typing import ClassVar

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from schemas.refusal import Refusal

_OURS = "WARREN_"
_RULES = ("WARREN_API_STRATEGIES", "WARREN_AGGREGATOR_STRATEGIES")


class Settings(BaseSettings):
    """Where a stack of another machine is.  Without these, the one under `--dir` is meant."""

    model_config = SettingsConfigDict(frozen=True, env_prefix=_OURS, extra="ignore")

    api_url: str | None = Field(default=None, pattern=r"^https?://[^/?#@]+$")  # http(s)://host:port
    api_token: SecretStr | None = None
    broker_url: SecretStr | None = None  # amqp(s)://login:password@host:port/vhost, to read the event log
    database_url: SecretStr | None = None  # postgresql+asyncpg://…, to read the event table
    s3_url: str | None = Field(default=None, pattern=r"^https?://[^/?#@]+$")  # to recompute a training
    s3_access_key: str = ""
    s3_secret_key: SecretStr = SecretStr("")
    s3_bucket: str = "warren"
    strategies: str = ""  # rules of one's own, for a stack that is started here: name=package.module:function


class InstallSettings(BaseSettings):
    """The servers that `warren install` makes ready, and the services' passwords on the broker."""

    model_config = SettingsConfigDict(frozen=True, env_prefix="WARREN_INSTALL_", extra="forbid")

    management_url: str  # of the broker: http(s)://host:port
    management_user: str
    management_password: SecretStr
    scheduler_password: SecretStr
    aggregator_password: SecretStr
    database_url: SecretStr  # postgresql+asyncpg://…
    s3_url: str  # http(s)://host:port
    s3_access_key: str
    s3_secret_key: SecretStr
    s3_bucket: str = "warren"


class SettingsWrong(Refusal):
    code: ClassVar[str] = "settings_wrong"

    def __init__(self, error: ValidationError) -> None:
        faults = error.errors(include_url=False, include_input=False)
        told = (f"{_OURS}{str(fault['loc'][0]).upper()}: {fault['msg']}" for fault in faults)
        super().__init__(f"the environment cannot be used: {'; '.join(told)}")


def read_settings() -> Settings:
    try:
        return Settings()
    except ValidationError as error:
        raise SettingsWrong(error) from None


def clean_environment() -> dict[str, str]:
    """Ours, without what is meant for a service of Warren's."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}


def rules_environment() -> dict[str, str]:
    """For services that are started here: the rules of one's own."""
    strategies = read_settings().strategies
    return dict.fromkeys(_RULES, strategies) if strategies else {}


def full_environment() -> dict[str, str]:
    return dict(os.environ)
