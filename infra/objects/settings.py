"""How to reach the object store."""

from pydantic import BaseModel, ConfigDict, Field, SecretStr


class ObjectStoreSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(pattern=r"^https?://[^/?#@]+$")  # http(s)://host:port
    public_url: str | None = Field(
        default=None, pattern=r"^https?://[^/?#@]+$"
    )  # what sites dial, if another
    access_key: str
    secret_key: SecretStr
    bucket: str = Field(default="warren", min_length=3)
    region: str = "us-east-1"
    write_once: bool = False  # sign `if-none-match: *` into uploads; not every store honours it
    connect_timeout_s: float = Field(default=5.0, gt=0)
    read_timeout_s: float = Field(default=30.0, gt=0)  # of each read from the socket, not of a transfer
    attempts: int = Field(default=3, ge=1)
    part_bytes: int = Field(default=16 << 20, ge=5 << 20)  # of an upload that are held in memory
