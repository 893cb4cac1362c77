"""The exchanges, queues, bindings and policies of one virtual host, as one RabbitMQ definitions document.

Only a queue's type and its single active consumer are arguments (and the header a hash exchange looks at).
Everything else is a policy, so that it can be changed later; every limit is said, because the defaults of
RabbitMQ 3.10 and 4.x differ.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from infra.broker.permissions import Grant, service_grants
from schemas.ids import ClientId
from schemas.routing import FROM_AGGREGATOR, FROM_CLIENTS, PRESENCE, REFUSED, TRAINING_HEADER, Exchange, Role

VHOST = "warren"
PARTITIONS = 4
DEAD_LETTERS = "dead-letters"  # exchange and queue
UNROUTED = "unrouted"  # exchange and queue
DISCARDED = "discarded"  # an exchange without queues: for what is worth nothing once it is old
SCHEDULER_EXCHANGE = "scheduler"

Definitions = dict[str, Any]  # RabbitMQ's own document

_S = 1_000
_DAY = 24 * 3600 * _S
_MIB = 2**20


class Queue(StrEnum):
    AGGREGATOR = "aggregator"
    PRESENCE = "presence"
    EVENT_LOG = "event-log"
    DEAD_LETTERS = DEAD_LETTERS
    UNROUTED = UNROUTED


@dataclass(frozen=True, slots=True)
class RetryLevel:
    name: str
    wait_ms: int

    @property
    def exchange(self) -> str:
        return f"retry.{self.name}"


LADDER = (
    RetryLevel("1s", 1 * _S),
    RetryLevel("5s", 5 * _S),
    RetryLevel("30s", 30 * _S),
    RetryLevel("5min", 300 * _S),
)


def scheduler_queues(partitions: int = PARTITIONS) -> tuple[str, ...]:
    return tuple(f"scheduler.p{i}" for i in range(partitions))


def client_queue(client_id: ClientId, suffix: str) -> str:
    """A random suffix: anybody on the virtual host can ask whether a queue of a given name exists."""
    return f"client.{client_id}.{suffix}"


def integrator_queue(name: str) -> str:
    return f"integrator.{name}"


def definitions(
    logins: Mapping[Role, str], *, partitions: int = PARTITIONS, vhost: str = VHOST
) -> Definitions:
    """Everything a virtual host needs.  `logins` are the services' password hashes (`permissions.hashed`)."""
    return {
        "vhosts": [{"name": vhost}],
        "exchanges": [{**entry, "vhost": vhost} for entry in _exchanges()],
        "queues": [{**entry, "vhost": vhost} for entry in _queues(partitions)],
        "bindings": [{**entry, "vhost": vhost} for entry in _bindings(partitions)],
        "policies": [{**entry, "vhost": vhost} for entry in _policies()],
        **_users(logins, vhost),
    }


def _exchanges() -> Iterable[Definitions]:
    kinds = {
        Exchange.COMMANDS: "topic",
        Exchange.CLIENTS: "direct",
        Exchange.UPLINK: "topic",
        Exchange.EVENTS: "topic",
        SCHEDULER_EXCHANGE: "x-consistent-hash",
        DEAD_LETTERS: "topic",
        UNROUTED: "fanout",
        DISCARDED: "fanout",
        **{level.exchange: "fanout" for level in LADDER},
    }
    for name, kind in kinds.items():
        arguments = {"hash-header": TRAINING_HEADER} if kind == "x-consistent-hash" else {}
        yield {
            "name": str(name),
            "type": kind,
            "durable": True,
            "auto_delete": False,
            "internal": False,
            "arguments": arguments,
        }


def _queues(partitions: int) -> Iterable[Definitions]:
    for name in scheduler_queues(partitions):
        yield _queue(name, "quorum", single_active_consumer=True)
    yield _queue(Queue.AGGREGATOR, "quorum")
    yield _queue(Queue.PRESENCE, "classic")
    yield _queue(Queue.EVENT_LOG, "stream")
    yield _queue(Queue.DEAD_LETTERS, "quorum")
    yield _queue(Queue.UNROUTED, "quorum")
    for level in LADDER:
        yield _queue(level.exchange, "quorum")


def _queue(name: str, kind: str, *, single_active_consumer: bool = False) -> Definitions:
    arguments: Definitions = {"x-queue-type": kind}
    if single_active_consumer:
        arguments["x-single-active-consumer"] = True
    return {"name": str(name), "durable": True, "auto_delete": False, "arguments": arguments}


def _bindings(partitions: int) -> Iterable[Definitions]:
    yield _bound(Exchange.COMMANDS, SCHEDULER_EXCHANGE, "scheduler.*", "exchange")
    yield _bound(Exchange.COMMANDS, Queue.AGGREGATOR, "aggregator.*")
    for report in sorted({*FROM_CLIENTS, *FROM_AGGREGATOR} - {PRESENCE.name}):
        yield _bound(Exchange.UPLINK, SCHEDULER_EXCHANGE, f"*.{report}", "exchange")
    yield _bound(Exchange.UPLINK, Queue.PRESENCE, f"*.{PRESENCE.name}")
    yield _bound(Exchange.UPLINK, Queue.DEAD_LETTERS, f"*.{REFUSED}")
    for name in scheduler_queues(partitions):
        yield _bound(SCHEDULER_EXCHANGE, name, "10")  # the weight
    yield _bound(Exchange.EVENTS, Queue.EVENT_LOG, "#")
    yield _bound(DEAD_LETTERS, Queue.DEAD_LETTERS, "#")
    yield _bound(UNROUTED, Queue.UNROUTED, "")
    for level in LADDER:
        yield _bound(level.exchange, level.exchange, "")


def _bound(source: str, destination: str, key: str, kind: str = "queue") -> Definitions:
    return {
        "source": str(source),
        "destination": str(destination),
        "destination_type": kind,
        "routing_key": key,
        "arguments": {},
    }


def _policies() -> Iterable[Definitions]:
    yield _policy("unrouted", r"^(uplink|events)$", {"alternate-exchange": UNROUTED}, "exchanges")
    yield _policy(
        "services",
        r"^(scheduler\.p\d+|aggregator)$",
        {
            "delivery-limit": 25,  # crashes and rolling restarts count too
            "max-length-bytes": 1024 * _MIB,
            "overflow": "reject-publish",
            "dead-letter-exchange": DEAD_LETTERS,
            "dead-letter-strategy": "at-least-once",
        },
    )
    for level in LADDER:
        yield _policy(
            level.exchange,
            rf"^retry\.{level.name}$",
            {
                "message-ttl": level.wait_ms,
                "max-length-bytes": 256 * _MIB,
                "overflow": "reject-publish",
                "dead-letter-exchange": "",  # by the routing key, which is the name of the queue it came from
                "dead-letter-strategy": "at-least-once",
            },
        )
    yield _policy(
        "clients",
        r"^client\.",
        {
            "expires": 14 * _DAY,
            "max-length": 1_000,
            "overflow": "drop-head",
            "dead-letter-exchange": DEAD_LETTERS,
        },
    )
    yield _policy(
        "presence",
        r"^presence$",
        {"max-length": 10_000, "overflow": "drop-head", "dead-letter-exchange": DISCARDED},
    )
    yield _policy(
        "integrators",
        r"^integrator\.",
        {
            "expires": 14 * _DAY,
            "max-length": 100_000,
            "max-length-bytes": 256 * _MIB,
            "overflow": "drop-head",
            "dead-letter-exchange": DISCARDED,
        },
    )
    yield _policy(
        "last-resort",
        rf"^({DEAD_LETTERS}|{UNROUTED})$",
        {"max-length": 100_000, "max-length-bytes": 256 * _MIB, "overflow": "drop-head"},
    )
    yield _policy(
        "event-log",
        r"^event-log$",
        {
            "max-age": "30D",
            "max-length-bytes": 10 * 1024 * _MIB,
            "stream-max-segment-size-bytes": 100 * _MIB,  # only whole segments ever expire
        },
    )


def _policy(name: str, pattern: str, definition: Definitions, apply_to: str = "queues") -> Definitions:
    return {"name": name, "pattern": pattern, "apply-to": apply_to, "priority": 10, "definition": definition}


def _users(logins: Mapping[Role, str], vhost: str) -> Definitions:
    grants = service_grants()
    asked: list[tuple[Role, Grant]] = [(role, grants[role]) for role in logins]
    return {
        "users": [
            {
                "name": str(role),
                "password_hash": password_hash,
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": [],
            }
            for role, password_hash in logins.items()
        ],
        "permissions": [{"user": str(role), "vhost": vhost, **grant.permissions} for role, grant in asked],
        "topic_permissions": [
            {"user": str(role), "vhost": vhost, **topic} for role, grant in asked for topic in grant.topics
        ],
    }
