"""Whatever a client sends to the scheduler: it is refused with a reason, and those behind it are handled."""

import json
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from aiormq import spec

from infra.broker.connection import Connection
from infra.broker.outgoing import Outgoing, properties
from schemas.commands import AbortTraining
from schemas.envelope import MAX_REPORT_BYTES, enclose, encode
from schemas.ids import ClientId, MessageId, TaskId, TrainingId
from schemas.message import Message
from schemas.reports import ClientRejected, Heartbeat, ModelUploaded, ShardReduced
from schemas.routing import ORIGIN_HEADER, REASON_HEADER, TRAINING_HEADER, Exchange
from tests.integration.broker.messages import publish_raw
from tests.integration.scheduler.small import LAYOUT, a_training
from tests.place import Place
from tests.scene import Scene, a_scene
from tests.sites import Sites, attending, silent

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sites(place: Place) -> AsyncIterator[Sites]:
    """Their scheduler runs on from case to case."""
    async with (
        a_scene(place) as scene,
        attending(scene, LAYOUT, silent) as found,
        scene.running(aggregators=0),
    ):
        yield found


@dataclass(frozen=True)
class Sender:
    """A client with a mind of its own, and a training it takes part in."""

    client: ClientId
    training: TrainingId
    key: str = "ModelUploaded"
    changes: dict[str, Any] = field(default_factory=dict)  # of the AMQP properties
    headers: dict[str, Any] = field(default_factory=dict)

    def message(self, body: bytes) -> tuple[Outgoing, spec.Basic.Properties]:
        outgoing = Outgoing(
            exchange=Exchange.UPLINK,
            key=f"{self.client}.{self.key}",
            body=body,
            message_id=str(uuid4()),
            type=self.key,
            headers={TRAINING_HEADER: str(self.training), **self.headers},
        )
        told = properties(outgoing, str(self.client))
        for name, value in self.changes.items():
            setattr(told, name, value)
        return outgoing, told

    def uploaded(self, client: ClientId | None = None) -> dict[str, Any]:
        report = ModelUploaded(
            training_id=self.training,
            task_id=TaskId(UUID(int=1)),
            client_id=client or self.client,
            round=0,
            sha256="0" * 64,
            num_examples=1,
            metrics={"loss": 1.0},
        )
        return in_envelope(report)


def in_envelope(message: Message) -> dict[str, Any]:
    envelope = enclose(message, id=MessageId(uuid4()), source="test", time=datetime.now(UTC))
    found: dict[str, Any] = json.loads(encode(envelope))
    return found


Case = Callable[[Sender], tuple[Sender, bytes]]


def raw(body: bytes) -> Case:
    return lambda sender: (sender, body)


def with_data(**changes: Any) -> Case:
    def case(sender: Sender) -> tuple[Sender, bytes]:
        said = sender.uploaded()
        return sender, json.dumps({**said, "data": {**said["data"], **changes}}).encode()

    return case


def with_envelope(**changes: Any) -> Case:
    return lambda sender: (sender, json.dumps({**sender.uploaded(), **changes}).encode())


def replaced(old: bytes, new: bytes) -> Case:
    return lambda sender: (sender, json.dumps(sender.uploaded()).encode().replace(old, new))


def saying(make: Callable[[Sender], Message], key: str = "ModelUploaded") -> Case:
    return lambda sender: (replace(sender, key=key), json.dumps(in_envelope(make(sender))).encode())


def sent(case: Case = with_envelope(), **changes: Any) -> Case:  # noqa: B008 -- a pure function
    def sent_so(sender: Sender) -> tuple[Sender, bytes]:
        sender, body = case(sender)
        return replace(sender, **changes), body

    return sent_so


def of_somebody_else(sender: Sender) -> tuple[Sender, bytes]:
    return sender, json.dumps(sender.uploaded(ClientId(UUID(int=9)))).encode()


def with_copies(sender: Sender) -> tuple[Sender, bytes]:
    """To a key of its own: to another's a new broker refuses them itself."""
    copies = [f"{sender.client}.Elsewhere"]
    return replace(sender, headers={"CC": copies}), json.dumps(sender.uploaded()).encode()


def padded(sender: Sender) -> tuple[Sender, bytes]:
    return sender, json.dumps(sender.uploaded()).encode().ljust(MAX_REPORT_BYTES + 1)


def a_shard(sender: Sender) -> Message:
    return ShardReduced(training_id=sender.training, round=0, epoch=1, shard=0, digests=("0" * 64,))


def an_abort(sender: Sender) -> Message:
    return AbortTraining(training_id=sender.training, reason="because I can")


def a_heartbeat(sender: Sender) -> Message:
    return Heartbeat(client_id=sender.client)


FAR = datetime(9999, 12, 31, tzinfo=UTC) - timedelta(days=1)

REFUSED: dict[str, tuple[str, Case]] = {
    "empty": ("malformed", raw(b"")),
    "no JSON": ("malformed", raw(b"{")),
    "not UTF-8": ("malformed", raw(b'{"type": "\xff\xfe"}')),
    "no envelope": ("malformed", raw(b"{}")),
    "a list": ("malformed", raw(b"[]")),
    "deeply nested": ("malformed", raw(b"[" * 60_000)),
    "deeply nested in its data": ("malformed", replaced(b'"loss": 1.0', b'"loss":' + b'{"a":' * 10_000)),
    "a number too long to be one": ("malformed", replaced(b'"round": 0', b'"round": ' + b"9" * 50_000)),
    "oversized": ("malformed", padded),
    "NaN": ("malformed", replaced(b'"loss": 1.0', b'"loss": NaN')),
    "infinite": ("malformed", replaced(b'"loss": 1.0', b'"loss": 1e999')),
    "an unknown field": ("malformed", with_data(model="mine")),
    "an unknown field of the envelope": ("malformed", with_envelope(admin=True)),
    "a wrong type": ("malformed", with_data(round="0")),
    "true for one": ("malformed", with_data(num_examples=True)),
    "no examples": ("malformed", with_data(num_examples=0)),
    "half a surrogate": ("malformed", replaced(b'"loss"', b'"\\ud800"')),
    "NUL in a name": ("malformed", replaced(b'"loss"', b'"a\\u0000b"')),
    "an unknown message": ("malformed", with_data(type="ModelStolen")),
    "an envelope of another training": ("malformed", with_envelope(trainingid=str(UUID(int=3)))),
    "a heartbeat among the reports": ("malformed", saying(a_heartbeat)),
    "somebody else's report": ("forged", of_somebody_else),
    "an aggregator's report": ("forged", saying(a_shard, "ShardReduced")),
    "an operator's command": ("forged", saying(an_abort)),
    "unsigned": ("forged", sent(changes={"user_id": None})),
    "with copies": ("forged", with_copies),
    "no properties": ("forged", sent(changes=dict.fromkeys(("user_id", "message_id", "message_type")))),
    "a body refused and strange headers": (
        "malformed",
        sent(raw(b"{"), headers={"nested": {"a": [1, {"b": bytearray(9)}]}, "nothing": None, "time": FAR}),
    ),
    "a body refused and large headers": ("malformed", sent(raw(b"{"), headers={"large": "x" * 100_000})),
    "a body refused and headers as large as a frame": (
        "malformed",
        sent(raw(b"{"), headers={"large": "x" * 130_400}),
    ),
    "a body refused and a moment out of time": ("malformed", sent(raw(b"{"), changes={"timestamp": FAR})),
}


@pytest.mark.parametrize(("code", "case"), REFUSED.values(), ids=REFUSED)
async def test_what_cannot_be_admitted_is_a_dead_letter_and_stops_nobody(
    sites: Sites, code: str, case: Case
) -> None:
    training = await a_started_training(sites)
    sender, body = case(Sender(sites.scene.place.clients[0], training))
    await publish(sites.scene, sender, body)
    await a_good_report_is_taken(sites, training)
    dead, headers = await the_dead_letter(sites)
    assert dead == body
    assert headers[REASON_HEADER].startswith(f"{code}: ")
    assert headers[ORIGIN_HEADER].startswith("scheduler.p")
    assert "ModelUploaded" not in await sites.scene.types(training)


async def a_started_training(sites: Sites) -> TrainingId:
    start = await a_training(sites.scene)
    await sites.scene.order(start)
    await sites.scene.happened(start.training_id, "RoundStarted")
    return start.training_id


async def a_good_report_is_taken(sites: Sites, training: TrainingId) -> None:
    client = sites.scene.place.clients[0]
    await sites.tell(ClientRejected(training_id=training, client_id=client, reason="not here"))
    await sites.scene.happened(training, "ParticipantRemoved", within_s=8)


async def the_dead_letter(sites: Sites) -> tuple[bytes, dict[str, str]]:
    (dead,) = await sites.scene.take("dead-letters")
    headers = dead.header.properties.headers or {}
    return dead.body, {name: str(value) for name, value in headers.items()}


async def publish(scene: Scene, sender: Sender, body: bytes) -> None:
    """With properties of its own choice, over the client's own login."""
    message, told = sender.message(body)
    async with Connection(scene.place.login(str(sender.client)), "test villain") as line:
        channel = await line.channel(confirms=True)
        await channel.basic_publish(
            body, exchange=message.exchange, routing_key=message.key, properties=told, mandatory=True
        )


def a_table(kind: bytes, value: bytes) -> bytes:
    entry = b"\x01a" + kind + value
    return struct.pack(">I", len(entry)) + entry


def a_text(size: int, letter: bytes = b"x") -> bytes:
    return struct.pack(">I", size) + letter * size


HEADERS = {
    "a text that is none": a_table(b"S", a_text(3, b"\xff")),
    "a number too large for half its size": a_table(b"d", struct.pack(">d", 1e300)),
    "a frame filled to its end": a_table(b"S", a_text(131_072 - 8 - 14 - 4 - 7)),
}


@pytest.mark.parametrize("table", HEADERS.values(), ids=HEADERS)
async def test_headers_that_nobody_could_send_again_stop_nobody(sites: Sites, table: bytes) -> None:
    client = sites.scene.place.clients[0]
    training = await a_started_training(sites)
    async with Connection(sites.scene.place.login(str(client)), "test villain") as line:
        channel = await line.channel()
        await publish_raw(channel.connection, f"{client}.ModelUploaded", 0x2000, table)
        _, headers = await the_dead_letter(sites)
    assert headers[REASON_HEADER].startswith("forged: ")
    await a_good_report_is_taken(sites, training)


async def test_a_report_about_a_training_nobody_knows_is_taken_and_forgotten(sites: Sites) -> None:
    client = sites.scene.place.clients[0]
    await sites.tell(ClientRejected(training_id=TrainingId(uuid4()), client_id=client, reason="no"))
    await a_good_report_is_taken(sites, await a_started_training(sites))
    assert await sites.scene.depth("dead-letters") == 0
