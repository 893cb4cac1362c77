"""What a stack remembers between runs: its ports and passwords, in `stack.json`."""

import random
import secrets
import socket
import time
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

HOST = "127.0.0.1"
DATABASE = "warren"
BUCKET = "warren"
_DYING_S = 5.0
_PORTS = range(20_000, 32_000)  # below the range from which systems take ports for outgoing connections


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RabbitAddress(Frozen):
    """An administrator's way to RabbitMQ."""

    host: str
    port: int
    management_port: int
    stream_port: int
    metrics_port: int
    user: str
    password: str = Field(repr=False)
    vhost: str = "/"

    @property
    def url(self) -> str:
        """With the user, without a virtual host: append `/` and its quoted name."""
        return f"amqp://{self.user}:{self.password}@{self.host}:{self.port}"

    @property
    def management_url(self) -> str:
        return f"http://{self.host}:{self.management_port}"


class PostgresAddress(Frozen):
    host: str
    port: int
    user: str
    password: str = Field(repr=False)
    database: str

    @property
    def url(self) -> str:
        return self.url_of(self.database)

    def url_of(self, database: str) -> str:
        return f"postgresql+asyncpg://{self.user}:{self.password}@{self.host}:{self.port}/{database}"


class S3Address(Frozen):
    """`endpoint` is host:port over plain HTTP, as the MinIO SDK wants it."""

    endpoint: str
    access_key: str
    secret_key: str = Field(repr=False)
    bucket: str

    @property
    def url(self) -> str:
        return f"http://{self.endpoint}"


class Endpoints(Frozen):
    """How to reach the three servers."""

    rabbit: RabbitAddress
    postgres: PostgresAddress
    s3: S3Address


class Ports(Frozen):
    amqp: int
    management: int
    stream: int
    metrics: int
    epmd: int
    distribution: int
    postgres: int
    s3: int


class Passwords(Frozen):
    rabbit: str = Field(repr=False)
    postgres: str = Field(repr=False)
    s3: str = Field(repr=False)
    cookie: str = Field(repr=False)


class Record(Frozen):
    """The content of `stack.json`."""

    ports: Ports
    passwords: Passwords

    @classmethod
    def fresh(cls) -> Self:
        names = tuple(Ports.model_fields)
        return cls(
            ports=Ports(**dict(zip(names, free_ports(len(names)), strict=True))),
            passwords=Passwords(**{name: secrets.token_hex(20) for name in Passwords.model_fields}),
        )

    @classmethod
    def read(cls, path: Path) -> Self:
        return cls.model_validate_json(path.read_bytes())

    def write(self, path: Path) -> None:
        """Readable by the owner only, and never half written."""
        draft = path.with_suffix(".draft")
        draft.touch(mode=0o600)
        draft.write_text(self.model_dump_json(indent=2))
        draft.replace(path)

    def moved_off(self, names: frozenset[str], patience_s: float = _DYING_S) -> Self:
        """The same record, with free ports for those of `names` that somebody else took.

        A server that was killed may hold its ports a little longer than its pid.
        """
        deadline = time.monotonic() + patience_s
        while taken := [name for name in names if not is_free(getattr(self.ports, name))]:
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        moved = dict(zip(taken, free_ports(len(taken)), strict=True))
        return self.model_copy(update={"ports": self.ports.model_copy(update=moved)})

    @property
    def endpoints(self) -> Endpoints:
        ports, passwords = self.ports, self.passwords
        return Endpoints(
            rabbit=RabbitAddress(
                host=HOST,
                port=ports.amqp,
                management_port=ports.management,
                stream_port=ports.stream,
                metrics_port=ports.metrics,
                user="admin",
                password=passwords.rabbit,
            ),
            postgres=PostgresAddress(
                host=HOST,
                port=ports.postgres,
                user="warren",
                password=passwords.postgres,
                database=DATABASE,
            ),
            s3=S3Address(
                endpoint=f"{HOST}:{ports.s3}", access_key="warren", secret_key=passwords.s3, bucket=BUCKET
            ),
        )


def free_ports(count: int) -> tuple[int, ...]:
    """So many different loopback ports nobody listens on."""
    found: set[int] = set()
    while len(found) < count:
        port = random.choice(_PORTS)  # noqa: S311 - not a secret
        if is_free(port):
            found.add(port)
    return tuple(found)


def is_free(port: int) -> bool:
    with socket.socket() as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind((HOST, port))
        except OSError:
            return False
    return True
