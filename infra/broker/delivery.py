"""A message that came in, who sent it, and what it looks like when it is passed on."""

from dataclasses import dataclass, field, replace
from datetime import datetime

from aiormq import spec

from infra.broker.errors import Forged
from infra.broker.outgoing import Headers, Outgoing
from infra.broker.topology import DEAD_LETTERS, LADDER
from schemas.envelope import MAX_MESSAGE_BYTES
from schemas.ids import ClientId
from schemas.routing import (
    ATTEMPT_HEADER,
    ORIGIN_HEADER,
    REASON_HEADER,
    REFUSED,
    TRAINING_HEADER,
    Exchange,
)

SENDER_HEADER = "warren-sender"
KEY_HEADER = "warren-key"
MAX_ATTEMPTS = 25  # about two hours of waiting

_MAX_REASON = 1_000
_MAX_KEPT = 256
_PASSED_ON = (TRAINING_HEADER, "traceparent")
_COPIES = frozenset({"CC", "BCC"})  # the broker would send copies to these keys, past all permissions


@dataclass(frozen=True, slots=True)
class Delivery:
    """What the consumer may believe: `sender` is who the broker vouches for, or nobody."""

    queue: str
    body: bytes = field(repr=False)
    message_id: str
    type: str
    user_id: str | None  # of who published it last, validated by the broker
    sender: str | None  # of who published it first
    routing_key: str  # the first one
    attempt: int  # how often it has already failed
    redelivered: bool
    delivery_tag: int
    correlation_id: str | None = None
    timestamp: datetime | None = None
    headers: Headers = field(default_factory=dict)

    @property
    def has_copies(self) -> bool:
        return not _COPIES.isdisjoint(self.headers)


@dataclass(frozen=True, slots=True)
class Arrival:
    """Where and how a message came in.  `login` is our own."""

    queue: str
    login: str
    routing_key: str
    delivery_tag: int
    redelivered: bool


def received(told: spec.Basic.Properties, body: bytes, at: Arrival) -> Delivery:
    """Only what we ourselves put on the retry ladder may say who sent it at first."""
    headers = dict(told.headers or {})
    is_ours = told.user_id == at.login and SENDER_HEADER in headers
    return Delivery(
        queue=at.queue,
        body=body,
        message_id=told.message_id or "",
        type=told.message_type or "",
        user_id=told.user_id,
        sender=(str(headers[SENDER_HEADER]) or None) if is_ours else told.user_id,
        routing_key=str(headers.get(KEY_HEADER, "")) if is_ours else at.routing_key,
        attempt=_count(headers.get(ATTEMPT_HEADER)) if is_ours else 0,
        redelivered=at.redelivered,
        delivery_tag=at.delivery_tag,
        correlation_id=told.correlation_id,
        timestamp=told.timestamp,
        headers=headers,
    )


def vouched(delivery: Delivery) -> str:
    """The sender, if the broker vouches for it; raises `Forged` otherwise.  Routing keys prove nothing."""
    if delivery.sender is None:
        raise Forged("the message has no user_id, or unreadable properties; its sender's login must be there")
    if delivery.has_copies:
        raise Forged("the message has a CC or BCC header; a message goes to one place only")
    return delivery.sender


def retried(delivery: Delivery, reason: str) -> Outgoing:
    """Back to its queue after a while that grows with each attempt; a dead letter after the last one."""
    attempt = delivery.attempt + 1
    if attempt >= MAX_ATTEMPTS:
        return dead_lettered(delivery, f"gave up after {attempt} attempts: {reason}")
    level = LADDER[min(attempt, len(LADDER)) - 1]
    return _passed_on(delivery, level.exchange, delivery.queue, reason, attempt)


def dead_lettered(delivery: Delivery, reason: str) -> Outgoing:
    """Under its first routing key, with the reason, the queue it was in and who sent it."""
    return _passed_on(delivery, DEAD_LETTERS, delivery.routing_key, reason, delivery.attempt)


def refused(delivery: Delivery, client: ClientId, reason: str) -> Outgoing:
    """A dead letter from a site: it may write `uplink` only, from where this key leads to the others."""
    told = _passed_on(delivery, Exchange.UPLINK, f"{client}.{REFUSED}", reason, delivery.attempt)
    return replace(told, body=delivery.body[:MAX_MESSAGE_BYTES])


def _passed_on(delivery: Delivery, exchange: str, key: str, reason: str, attempt: int) -> Outgoing:
    ours = {
        ATTEMPT_HEADER: attempt,
        REASON_HEADER: reason[:_MAX_REASON],
        ORIGIN_HEADER: delivery.queue,
        KEY_HEADER: delivery.routing_key,
        SENDER_HEADER: delivery.sender or "",
    }
    return Outgoing(
        exchange=exchange,
        key=key,
        body=delivery.body,
        message_id=delivery.message_id,
        type=delivery.type,
        correlation_id=delivery.correlation_id,
        timestamp=delivery.timestamp,
        headers={**_kept(delivery.headers), **ours},
    )


def _kept(headers: Headers) -> dict[str, str]:
    """Only what is ours: a stranger's headers may be too large, or nothing that can be written again."""
    found = {name: headers.get(name) for name in _PASSED_ON}
    return {name: text for name, text in found.items() if isinstance(text, str) and len(text) <= _MAX_KEPT}


def _count(value: object) -> int:
    return value if isinstance(value, int) and value >= 0 else 0
