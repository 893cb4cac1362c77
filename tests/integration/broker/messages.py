"""Messages for tests about their way, not their content."""

import struct
from typing import cast
from uuid import UUID, uuid4

import aiormq
import pamqp.frame
from aiormq import spec
from aiormq.abc import AbstractConnection, ChannelFrame

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


def _nested(depth: int) -> bytes:
    table = b""
    for _ in range(depth):
        table = b"\x01aF" + struct.pack(">I", len(table)) + table
    return struct.pack(">I", len(table)) + table


# Fine for RabbitMQ, too much for the AMQP library: which properties follow, and their bytes.
HOSTILE_PROPERTIES = {
    "a timestamp in the year 36 million": (0x40, struct.pack(">Q", 2**60)),
    "a type that is no text": (0x20, b"\x02\xff\xfe"),
    "a message id that is no text": (0x80, b"\x02\xff\xfe"),
    "a header whose name is no text": (0x2000, b"\x00\x00\x00\x04\x02\xff\xfeV"),
    "a header with such a timestamp": (0x2000, b"\x00\x00\x00\x0b\x01aT" + struct.pack(">Q", 2**63)),
    "tables nested 5,000 deep": (0x2000, _nested(5_000)),
}


async def publish_raw(connection: AbstractConnection, key: str, flags: int, properties: bytes) -> None:
    """A report with such properties, byte by byte, as no honest library would write it."""
    channel = cast(aiormq.Channel, await connection.channel(publisher_confirms=False))
    number = channel.number
    method = pamqp.frame.marshal(spec.Basic.Publish(exchange="uplink", routing_key=key), number)
    header = struct.pack(">HHQH", 60, 0, 2, flags) + properties
    frames = method + _frame(2, number, header) + _frame(3, number, b"{}")
    await channel.write_queue.put(ChannelFrame(frames, should_close=False, drain_future=None))
    await channel.close()


def _frame(kind: int, channel: int, payload: bytes) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"
