"""A message that is ready to be published."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from aiormq import spec

from schemas.envelope import CONTENT_TYPE, Envelope, encode
from schemas.message import Message
from schemas.routing import TRAINING_HEADER

Headers = Mapping[str, Any]  # whatever AMQP carries: what is passed on may bring headers of others


@dataclass(frozen=True, slots=True)
class Outgoing:
    """Who sends it is not for the message to say: the publisher adds its own login."""

    exchange: str
    key: str
    body: bytes = field(repr=False)
    message_id: str
    type: str
    correlation_id: str | None = None
    timestamp: datetime | None = None
    headers: Headers = field(default_factory=dict)


def outgoing(
    envelope: Envelope[Message], exchange: str, key: str, *, traceparent: str | None = None
) -> Outgoing:
    headers: dict[str, str | int] = {}
    if envelope.trainingid:
        headers[TRAINING_HEADER] = str(envelope.trainingid)
    if traceparent:
        headers["traceparent"] = traceparent
    return Outgoing(
        exchange=exchange,
        key=key,
        body=encode(envelope),
        message_id=str(envelope.id),
        type=envelope.type,
        correlation_id=str(envelope.correlationid) if envelope.correlationid else None,
        timestamp=envelope.time,
        headers=headers,
    )


def properties(message: Outgoing, login: str) -> spec.Basic.Properties:
    return spec.Basic.Properties(
        content_type=CONTENT_TYPE,
        delivery_mode=2,  # persistent
        message_id=message.message_id,
        message_type=message.type,
        correlation_id=message.correlation_id,
        timestamp=message.timestamp,
        user_id=login,
        headers=dict(message.headers),
    )
