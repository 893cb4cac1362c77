"""What an operator may change about the API."""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from infra.objects.settings import ObjectStoreSettings

MIB = 2**20


class Settings(BaseSettings):
    """Read from the environment once, in `__main__`: `WARREN_API_PORT`, `WARREN_API_DATABASE_URL`, …"""

    model_config = SettingsConfigDict(frozen=True, env_prefix="WARREN_API_", extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65_535)

    database_url: SecretStr  # postgresql+asyncpg://…
    database_pool: int = Field(default=10, ge=1)

    s3_url: str  # http(s)://host:port
    s3_access_key: str
    s3_secret_key: SecretStr
    s3_bucket: str = "warren"

    management_url: str  # of the broker: clients are enrolled and revoked there
    management_user: str
    management_password: SecretStr
    vhost: str = "warren"
    agents_amqp_url: str  # what sites dial, without login: amqp(s)://host:port/vhost

    open_registration: bool = True  # anybody may become a user; else the administrator makes them
    choose_ids: bool = False  # a new client may bring its own id: for stacks whose runs must repeat
    admin_username: str = "admin"
    admin_password: SecretStr | None = None  # without one there is no administrator

    strategies: str = ""  # rules of the operator's own: name=package.module:function, with commas between

    max_model_bytes: int = Field(default=2_048 * MIB, ge=1)  # of an upload, all of it
    max_json_bytes: int = Field(default=MIB, ge=1)
    verified_for_s: float = Field(default=300.0, ge=0)  # a password is not hashed again within
    probe_timeout_s: float = Field(default=2.0, gt=0)  # of each part in /health/ready

    log_level: str = "INFO"

    @property
    def objects(self) -> ObjectStoreSettings:
        return ObjectStoreSettings(
            url=self.s3_url,
            access_key=self.s3_access_key,
            secret_key=self.s3_secret_key,
            bucket=self.s3_bucket,
        )
