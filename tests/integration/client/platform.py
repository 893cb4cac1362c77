# ruff: noqa: ASYNC110 -- tests may look at the disk, and wait by looking
"""The other side of an agent: what the scheduler orders, what it hears, and the store between them."""

import asyncio
import hashlib
import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import aiormq
from aiormq.abc import DeliveredMessage

from infra.broker.admin import BrokerAdmin
from infra.broker.outgoing import Outgoing, outgoing
from infra.broker.publisher import Publisher
from infra.broker.topology import Queue
from infra.objects.minio_objects import MinioObjects
from infra.objects.store import fetch
from infra.objects.tickets import TicketOffice
from schemas import keys
from schemas.commands import Access, TrainRound
from schemas.envelope import Envelope, decode, enclose, encode
from schemas.ids import ClientId, MessageId, ModelId, TaskId, TrainingId
from schemas.message import Message
from schemas.reports import ClientReport, Heartbeat
from schemas.routing import FROM_CLIENTS, TO_CLIENTS
from schemas.weights import ModelRef, StateRef
from schemas.words import Extra, Slot
from tests.unit.client.builders import MODEL_BYTES

Said = Envelope[Message]


@dataclass
class Platform:
    admin: BrokerAdmin
    scheduler: Publisher
    objects: MinioObjects
    tickets: TicketOffice
    client: ClientId
    queue: str
    place: str  # host:port/vhost
    training: TrainingId = field(default_factory=lambda: TrainingId(uuid4()))
    said: list[Said] = field(default_factory=list)
    users: set[str | None] = field(default_factory=set)
    ear: aiormq.Channel | None = None  # an administrator's

    async def listen(self, channel: aiormq.Channel) -> None:
        self.ear = channel
        queue = await channel.queue_declare("", exclusive=True)
        assert queue.queue
        for report in FROM_CLIENTS:
            await channel.queue_bind(queue.queue, "uplink", f"*.{report}")
        await channel.basic_consume(queue.queue, self._hear, no_ack=True)

    async def _hear(self, message: DeliveredMessage) -> None:
        self.users.add(message.header.properties.user_id)
        self.said.append(decode(message.body, ClientReport))

    @property
    def reports(self) -> list[Said]:
        return [said for said in self.said if not isinstance(said.data, Heartbeat)]

    @property
    def heartbeats(self) -> list[Heartbeat]:
        return [said.data for said in self.said if isinstance(said.data, Heartbeat)]

    async def next_report(self, number: int = 1) -> Said:
        async with asyncio.timeout(30):
            while len(self.reports) < number:
                await asyncio.sleep(0.005)
        return self.reports[number - 1]

    async def next_dead_letter(self) -> DeliveredMessage:
        assert self.ear
        async with asyncio.timeout(20):
            while (found := await self.ear.basic_get(Queue.DEAD_LETTERS, no_ack=True)).delivery_tag is None:
                await asyncio.sleep(0.02)
        return found

    async def depth(self, queue: str) -> int:
        """How many messages wait in it for somebody to take them, now."""
        assert self.ear
        return (await self.ear.queue_declare(queue, passive=True)).message_count or 0

    def an_order(
        self,
        deadline_s: float = 60,
        model: bytes = MODEL_BYTES,
        state: bytes | None = None,
        extra: Extra | None = None,
    ) -> TrainRound:
        """To train a model that is in the store, the strategy's state beside it."""
        key = keys.model_version(self.training, 0, 1)
        self.objects.put(key, [model], len(model))
        return TrainRound(
            training_id=self.training,
            task_id=TaskId(uuid4()),
            client_id=self.client,
            round=0,
            attempt=1,
            model=ModelRef(
                model_id=ModelId(UUID(int=3)),
                version=0,
                key=key,
                sha256=hashlib.sha256(model).hexdigest(),
                size=len(model),
                header_size=8 + int.from_bytes(model[:8], "little"),
            ),
            extra=extra,
            state=self._stored_state(state) if state else None,
            config={},
            deadline_at=datetime.now(UTC) + timedelta(seconds=deadline_s),
        )

    def _stored_state(self, content: bytes) -> StateRef:
        key = keys.state(self.training, 0, 1, Slot.CONTROL)
        self.objects.put(key, [content], len(content))
        sha256 = hashlib.sha256(content).hexdigest()
        return StateRef(slot=Slot.CONTROL, key=key, sha256=sha256, size=len(content))

    def ticketed(self, order: TrainRound, *expired: str) -> TrainRound:
        """With URLs for everything; of `model`, `state` and `update` those named are past their time."""
        now = datetime.now(UTC)

        def signed_at(what: str) -> datetime:
            return now - timedelta(hours=2) if what in expired else now

        download = self.tickets.download(order.model.key, signed_at("model"), 600)
        size = None if order.extra or order.partial else order.model.size
        upload = self.tickets.upload(self.update_key(order), size, signed_at("update"), 600)
        state = order.state and self.tickets.download(order.state.key, signed_at("state"), 600)
        access = Access(
            download_url=download.url.get_secret_value(),
            upload_url=upload.url.get_secret_value(),
            upload_headers=upload.headers,
            state_url=state.url.get_secret_value() if state else None,
            expires_at=now + timedelta(seconds=600),
        )
        return order.model_copy(update={"access": access})

    def update_of(self, order: TrainRound) -> bytes:
        return fetch(self.objects, self.update_key(order), 2**20)

    def update_key(self, order: TrainRound) -> str:
        return keys.update(order.training_id, order.round, order.task_id)

    async def send(self, command: Message, body: bytes | None = None) -> None:
        envelope = enclose(command, id=MessageId(uuid4()), source="scheduler", time=datetime.now(UTC))
        route = TO_CLIENTS[command.type]
        message = outgoing(envelope, route.exchange, str(self.client))
        await self.scheduler.publish(replace(message, body=body or encode(envelope)))

    async def send_raw(self, body: bytes) -> None:
        await self.scheduler.publish(
            Outgoing(exchange="clients", key=str(self.client), body=body, message_id=str(uuid4()), type="X")
        )

    async def forbid_reports(self, *, forbidden: bool) -> None:
        grants = {"configure": "^$", "write": "^$" if forbidden else "^uplink$", "read": ".*"}
        await self.admin._put(f"permissions/{self.admin._vhost}/{self.client}", grants)

    def credentials(self, folder: Path, password: str | None = None, place: str | None = None) -> Path:
        path = folder / "credentials.json"
        url = f"amqp://{self.client}:{password or f'{self.client}-secret'}@{place or self.place}"
        path.write_text(json.dumps({"client_id": str(self.client), "amqp_url": url, "queue": self.queue}))
        return path
