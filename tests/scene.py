"""A stage for whole trainings: real servers, services in this process, and sites that do as they are told."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import aiormq
from sqlalchemy import insert, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.broker.admin import BrokerAdmin
from infra.broker.connection import Connection
from infra.broker.publisher import Publisher
from infra.broker.topology import Queue, scheduler_queues
from infra.database.engine import connect
from infra.database.tables import OUTBOX_CHANNEL, events, outbox, trainings
from infra.objects.minio_objects import MinioObjects
from schemas.commands import StartTraining
from schemas.envelope import Envelope, decode, enclose, encode
from schemas.events import Event
from schemas.identity import order_id
from schemas.ids import ClientId, MessageId, ModelId, TrainingId
from schemas.keys import uploaded_model
from schemas.message import Message
from schemas.plan import Plan
from schemas.routing import TO_SCHEDULER
from schemas.weights import ModelRef
from services.aggregator import app as aggregator
from services.scheduler import app as scheduler
from tests.databases import create, empty, enrol
from tests.place import Place, topology
from tests.recompute import sha256_of

OVER = ("completed", "failed", "aborted")
_QUEUES = (*scheduler_queues(), Queue.AGGREGATOR, Queue.PRESENCE, Queue.DEAD_LETTERS, Queue.UNROUTED)

Service = Callable[[asyncio.Event], Any]


@dataclass
class Scene:
    """One test's stage: empty tables and queues, and nothing running yet."""

    place: Place
    engine: AsyncEngine
    admin: BrokerAdmin
    channel: aiormq.Channel  # of an administrator
    objects: MinioObjects
    held: AsyncExitStack
    _publishers: dict[str, Publisher] = field(default_factory=dict)

    @asynccontextmanager
    async def running(self, *, aggregators: int = 1, **changes: Any) -> AsyncIterator[None]:
        """A scheduler, with these settings changed, and some workers."""
        workers = [lambda stop: aggregator.run(self.place.aggregator(), stop) for _ in range(aggregators)]
        settings = self.place.scheduler(**changes)
        async with served(lambda stop: scheduler.run(settings, stop), *workers):
            yield

    async def publisher(self, login: str) -> Publisher:
        """Speaks as a service or as a client."""
        if login not in self._publishers:
            line = await self.held.enter_async_context(Connection(self.place.login(login), f"test {login}"))
            self._publishers[login] = Publisher(line)
        return self._publishers[login]

    async def training(
        self, model: bytes, header_size: int, clients: Sequence[ClientId] = (), **plan: Any
    ) -> StartTraining:
        """A training that REST has written down and that is not started yet."""
        model_id = ModelId(uuid4())
        key = uploaded_model(model_id)
        await asyncio.to_thread(self.objects.put, key, [model], len(model))
        ref = ModelRef(
            model_id=model_id,
            version=0,
            key=key,
            sha256=sha256_of(model),
            size=len(model),
            header_size=header_size,
        )
        start = StartTraining(
            training_id=TrainingId(uuid4()),
            plan=Plan(**plan),
            model=ref,
            participants=tuple(clients or self.place.clients),
        )
        await create(self.engine, start)
        return start

    async def order(self, command: Message, *, notify: bool = True) -> MessageId:
        """As REST does: a row of the outbox, and a word to the relay."""
        training: TrainingId = command.training_id  # type: ignore[attr-defined] # of a TrainingMessage
        key = order_id(training, command.type)
        route = TO_SCHEDULER[command.type]
        body = encode(enclose(command, id=key, source="api", time=datetime.now(UTC)))
        row = {
            "id": key,
            "training_id": training,
            "exchange": route.exchange,
            "routing_key": route.key_for(command),
            "body": body,
            "until_answered": True,
        }
        async with self.engine.begin() as connection:
            await connection.execute(insert(outbox).values(row))
            if notify:
                await connection.execute(text(f"NOTIFY {OUTBOX_CHANNEL}"))
        return key

    async def rows(self, statement: Any) -> list[Any]:
        async with self.engine.connect() as connection:
            return list((await connection.execute(statement)).all())

    async def bodies(self, training: TrainingId) -> list[bytes]:
        """The event table's copy."""
        found = select(events.c.envelope).where(events.c.training_id == training).order_by(events.c.seq)
        return [row.envelope for row in await self.rows(found)]

    async def events(self, training: TrainingId) -> list[Envelope[Event]]:
        return [decode(body, Event) for body in await self.bodies(training)]

    async def types(self, training: TrainingId) -> list[str]:
        return [envelope.type for envelope in await self.events(training)]

    async def state(self, training: TrainingId) -> str:
        (row,) = await self.rows(select(trainings.c.state).where(trainings.c.id == training))
        return str(row.state)

    async def ended(self, training: TrainingId, within_s: float = 30) -> str:
        """The state in which it has ended."""
        await until(lambda: self._is_over(training), within_s)
        return await self.state(training)

    async def happened(self, training: TrainingId, event: str, times: int = 1, within_s: float = 30) -> None:
        async def has() -> bool:
            return (await self.types(training)).count(event) >= times

        await until(has, within_s)

    async def published(self, training: TrainingId) -> None:
        """Wait until nothing of the training is open."""
        open_rows = select(outbox.c.id).where(outbox.c.training_id == training)

        async def is_empty() -> bool:
            return not await self.rows(open_rows)

        await until(is_empty)

    async def depth(self, queue: str) -> int:
        return (await self.channel.queue_declare(queue, passive=True)).message_count or 0

    async def take(
        self, queue: str, count: int = 1, within_s: float = 10
    ) -> list[aiormq.abc.DeliveredMessage]:
        """The next messages of a queue, acknowledged."""
        found: list[Any] = []
        async with asyncio.timeout(within_s):
            while len(found) < count:
                got = await self.channel.basic_get(queue, no_ack=True)
                if isinstance(got.delivery, aiormq.spec.Basic.GetOk):
                    found.append(got)
                else:
                    await asyncio.sleep(0.01)
        return found

    async def _is_over(self, training: TrainingId) -> bool:
        return await self.state(training) in OVER


@asynccontextmanager
async def a_scene(place: Place) -> AsyncIterator[Scene]:
    rabbit = place.endpoints.rabbit
    async with AsyncExitStack() as held:
        engine = connect(place.database)
        held.push_async_callback(engine.dispose)
        admin = await held.enter_async_context(place.administrator())
        line = Connection(place.login(rabbit.user, rabbit.password), "test administrator")
        channel = await (await held.enter_async_context(line)).channel()
        await _set_stage(place, engine, admin, channel)
        yield Scene(place, engine, admin, channel, MinioObjects(place.store()), held)


@asynccontextmanager
async def served(*services: Service) -> AsyncIterator[None]:
    """Run services as tasks; one that fails fails the test."""
    stop = asyncio.Event()
    tasks = [asyncio.create_task(service(stop)) for service in services]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def until(holds: Callable[[], Any], within_s: float = 10) -> None:
    async with asyncio.timeout(within_s):
        while not await holds():  # noqa: ASYNC110 -- it happens in another process
            await asyncio.sleep(0.02)


async def _set_stage(place: Place, engine: AsyncEngine, admin: BrokerAdmin, channel: aiormq.Channel) -> None:
    """Logins are the broker's, not the virtual host's: other tests may have given them other passwords."""
    await empty(engine)
    await enrol(engine, place.sites)
    await admin.declare(topology(place))
    for queue in (*_QUEUES, *(queue for _, queue in place.sites)):
        await channel.queue_purge(queue)
