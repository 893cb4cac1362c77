"""Messages for tests about their way, not their content."""

from uuid import UUID, uuid4

import aiormq

from infra.broker.outgoing import Outgoing
from schemas.routing import TRAINING_HEADER, Exchange, Route

TRAINING = UUID(int=7)


def a_message(exchange: str, key: str, body: bytes = b"{}", *, training: UUID = TRAINING) -> Outgoing:
    return Outgoing(
        exchange=exchange,
        key=key,
        body=body,
        message_id=str(uuid4()),
        type="Test",
        headers={TRAINING_HEADER: str(training)},
    )


def a_report(sender: object, name: str = "ModelUploaded", body: bytes = b"{}") -> Outgoing:
    return a_message(Exchange.UPLINK, f"{sender}.{name}", body)


def along(route: Route, client: object) -> Outgoing:
    key = route.key.format(client_id=client, training_id=TRAINING, sender=client)
    return a_message(route.exchange, key)


async def depth(channel: aiormq.Channel, queue: str) -> int:
    """How many messages wait in it, now."""
    return (await channel.queue_declare(queue, passive=True)).message_count or 0
