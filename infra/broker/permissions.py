"""What each login may do, as patterns the broker enforces."""

import hashlib
import re
import secrets
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from schemas.ids import ClientId
from schemas.routing import Exchange, Role

NOTHING = "^$"
CLIENT_LIMITS: Mapping[str, int] = MappingProxyType({"max-connections": 2, "max-channels": 8})


@dataclass(frozen=True, slots=True)
class Grant:
    """Nobody but the administrator configures anything.

    Topics: the keys a login may use on an exchange it may write.  They are a second line only: old brokers
    let `CC` headers by.  The first line is the sender the broker vouches for.
    """

    write: str = NOTHING
    read: str = NOTHING
    topics_written: Mapping[str, str] = field(default_factory=dict)

    @property
    def permissions(self) -> dict[str, str]:
        return {"configure": NOTHING, "write": self.write, "read": self.read}

    @property
    def topics(self) -> tuple[dict[str, str], ...]:
        return tuple(
            {"exchange": exchange, "write": keys, "read": NOTHING}
            for exchange, keys in self.topics_written.items()
        )


def service_grants() -> Mapping[Role, Grant]:
    """The API talks to the broker's management only: its commands go through the outbox."""
    return MappingProxyType(
        {
            Role.API: Grant(),
            Role.SCHEDULER: Grant(
                write=r"^(commands|clients|events|retry\..+|dead-letters)$",
                read=r"^(scheduler\.p\d+|presence)$",
            ),
            Role.AGGREGATOR: Grant(
                write=r"^(uplink|retry\..+|dead-letters)$",
                read=r"^aggregator$",
                topics_written={str(Exchange.UPLINK): r"^aggregator\.[A-Za-z]+$"},
            ),
        }
    )


def client_permissions(client_id: ClientId, queue: str) -> Grant:
    """Write reports under its own name, read its own queue, nothing else."""
    return Grant(
        write=rf"^{Exchange.UPLINK}$",
        read=_exactly(queue),
        topics_written={str(Exchange.UPLINK): rf"^{client_id}\.[A-Za-z]+$"},
    )


def integrator_permissions(queue: str) -> Grant:
    return Grant(read=_exactly(queue))


def _exactly(name: str) -> str:
    return "^" + re.escape(name).replace(r"\-", "-") + "$"


def hashed(password: str) -> str:
    """A password as RabbitMQ keeps it: base64(salt + sha256(salt + password)), salt of 4 bytes."""
    salt = secrets.token_bytes(4)
    return b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
