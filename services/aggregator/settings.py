"""What an operator may change about an aggregator worker."""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Read from the environment once, in `__main__`: `WARREN_AGGREGATOR_BROKER_URL`, …"""

    model_config = SettingsConfigDict(frozen=True, env_prefix="WARREN_AGGREGATOR_", extra="forbid")

    broker_url: SecretStr  # amqp(s)://aggregator:password@host:port/vhost
    parallel: int = Field(default=2, ge=1, le=64)  # commands in hand at the same time
    strategies: str = ""  # rules of the operator's own: name=package.module:function, with commas between
    drain_s: float = Field(default=15.0, gt=0)  # to finish what is in hand when asked to stop

    s3_url: str  # http(s)://host:port
    s3_access_key: str
    s3_secret_key: SecretStr
    s3_bucket: str = "warren"

    log_level: str = "INFO"
