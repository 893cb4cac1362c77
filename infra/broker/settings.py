"""How to reach the broker."""

import ssl
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator
from yarl import URL


class BrokerSettings(BaseModel):
    """One login's way to one virtual host.

    A site that shows a certificate gives its files and an amqps URL: its login is the certificate's name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: SecretStr  # amqp(s)://login:password@host:port/vhost
    heartbeat_s: int = Field(default=10, ge=1, le=600)
    connect_timeout_s: float = Field(default=10.0, gt=0)
    publish_timeout_s: float = Field(default=10.0, gt=0)  # then the outcome is unknown
    ca_file: Path | None = None  # the system's authorities when absent
    certificate_file: Path | None = None
    key_file: Path | None = None

    @model_validator(mode="after")
    def _makes_sense(self) -> "BrokerSettings":
        url = self._parsed
        if url.scheme not in {"amqp", "amqps"} or not url.host or not url.user:
            raise ValueError("the broker's URL must look like amqp(s)://login:password@host:port/vhost")
        if (self.ca_file or self.certificate_file) and url.scheme != "amqps":
            raise ValueError("certificates are of use only with an amqps URL")
        return self

    @property
    def login(self) -> str:
        return self._parsed.user or ""

    @property
    def vhost(self) -> str:
        return self._parsed.path[1:] or "/"

    @property
    def place(self) -> str:
        """Host, port and virtual host: what an error may say without giving the password away."""
        return f"{self._parsed.host}:{self._parsed.port or ''} (virtual host {self.vhost})"

    def connection_url(self, name: str) -> URL:
        """The URL as aiormq and aio-pika want it, every option said."""
        options: dict[str, str | int] = {"heartbeat": self.heartbeat_s, "name": name}
        if self.certificate_file:
            options["auth"] = "EXTERNAL"
        return self._parsed.with_query(options)

    def tls(self) -> ssl.SSLContext | None:
        if self._parsed.scheme != "amqps":
            return None
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.certificate_file:
            context.load_cert_chain(self.certificate_file, self.key_file)
        return context

    @property
    def _parsed(self) -> URL:
        return URL(self.url.get_secret_value())
