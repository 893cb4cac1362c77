"""What an operator may change about the scheduler."""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Read from the environment once, in `__main__`: `WARREN_SCHEDULER_BROKER_URL`, …"""

    model_config = SettingsConfigDict(frozen=True, env_prefix="WARREN_SCHEDULER_", extra="forbid")

    broker_url: SecretStr  # amqp(s)://scheduler:password@host:port/vhost
    prefetch: int = Field(default=500, ge=1, le=65_535)  # of each partition: what one transaction may take
    database_url: SecretStr  # postgresql+asyncpg://…
    database_pool: int = Field(default=8, ge=3)

    s3_url: str  # http(s)://host:port
    s3_public_url: str | None = None  # what sites dial, if another
    s3_access_key: str
    s3_secret_key: SecretStr
    s3_bucket: str = "warren"
    s3_write_once: bool = False  # sign uploads as write-once, where the store enforces it

    # With these the scheduler mends the broker's topology; without, an operator does.
    management_url: str | None = None
    management_user: str = ""
    management_password: SecretStr = SecretStr("")
    mend_every_s: float = Field(default=30.0, gt=0)

    log_level: str = "INFO"
