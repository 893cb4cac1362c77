"""A stage for whole trainings: real servers, services in this process, and sites that do as they are told."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import aiormq
from pydantic import SecretStr
from sqlalchemy import insert, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.broker.admin import BrokerAdmin
from infra.broker.connection import Connection
from infra.broker.permissions import hashed
from infra.broker.publisher import Publisher
from infra.broker.settings import BrokerSettings
from infra.broker.topology import Queue, client_queue, definitions, scheduler_queues
from infra.database.engine import connect
from infra.database.tables import OUTBOX_CHANNEL, events, outbox, trainings
from infra.objects.minio_objects import MinioObjects
from infra.objects.settings import ObjectStoreSettings
from infra.stack.record import Endpoints
from schemas.commands import StartTraining
from schemas.envelope import Envelope, decode, enclose, encode
from schemas.events import Event
from schemas.identity import order_id
from schemas.ids import ClientId, MessageId, ModelId, TrainingId
from schemas.keys import uploaded_model
from schemas.message import Message
from schemas.plan import Plan
from schemas.routing import TO_SCHEDULER, Role
from schemas.weights import ModelRef
from services.aggregator import app as aggregator
from services.aggregator.settings import Settings as AggregatorSettings
from services.scheduler import app as scheduler
from services.scheduler.settings import Settings as SchedulerSettings
from tests.databases import a_database, create, empty, enrol
from tests.recompute import sha256_of

SERVICES = (Role.API, Role.SCHEDULER, Role.AGGREGATOR)
OVER = ("completed", "failed", "aborted")
_QUEUES = (*scheduler_queues(), Queue.AGGREGATOR, Queue.PRESENCE, Queue.DEAD_LETTERS, Queue.UNROUTED)

Service = Callable[[asyncio.Event], Any]


@dataclass(frozen=True)
class Place:
    """A virtual host, a database and enrolled clients, for as many tests as like."""

    endpoints: Endpoints
    vhost: str
    database: str
    clients: tuple[ClientId, ...]  # sorted

    @property
    def broker(self) -> str:
        return f"{self.endpoints.rabbit.host}:{self.endpoints.rabbit.port}/{self.vhost}"

    @property
    def sites(self) -> tuple[tuple[ClientId, str], ...]:
        return tuple((client, client_queue(client, "abc")) for client in self.clients)

    def login(self, name: str, password: str | None = None) -> BrokerSettings:
        return BrokerSettings(url=SecretStr(self.amqp(name, password)))

    def amqp(self, name: str, password: str | None = None) -> str:
        return f"amqp://{name}:{password or f'{name}-secret'}@{self.broker}"

    def administrator(self) -> BrokerAdmin:
        rabbit = self.endpoints.rabbit
        return BrokerAdmin(rabbit.management_url, rabbit.user, rabbit.password, self.vhost, settle_s=0)

    def store(self) -> ObjectStoreSettings:
        s3 = self.endpoints.s3
        return ObjectStoreSettings(
            url=s3.url, access_key=s3.access_key, secret_key=SecretStr(s3.secret_key), bucket=s3.bucket
        )

    def scheduler(self, **changes: Any) -> SchedulerSettings:
        store = self.store()
        settings = SchedulerSettings(
            broker_url=SecretStr(self.amqp(Role.SCHEDULER)),
            database_url=SecretStr(self.database),
            s3_url=store.url,
            s3_access_key=store.access_key,
            s3_secret_key=store.secret_key,
            s3_bucket=store.bucket,
        )
        return settings.model_copy(update=changes)

    def aggregator(self, **changes: Any) -> AggregatorSettings:
        store = self.store()
        settings = AggregatorSettings(
            broker_url=SecretStr(self.amqp(Role.AGGREGATOR)),
            s3_url=store.url,
            s3_access_key=store.access_key,
            s3_secret_key=store.secret_key,
            s3_bucket=store.bucket,
        )
        return settings.model_copy(update=changes)


@contextmanager
def a_place(stack: Endpoints, clients: int = 5) -> Iterator[Place]:
    with a_database(stack) as database:
        names = tuple(sorted(ClientId(uuid4()) for _ in range(clients)))
        place = Place(stack, f"test-{uuid4().hex[:12]}", database, names)
        asyncio.run(_furnish(place))
        yield place
        asyncio.run(_clear(place))


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


async def _furnish(place: Place) -> None:
    MinioObjects(place.store()).make_bucket()
    async with place.administrator() as admin:
        await admin.declare(_definitions(place))
        for client, queue in place.sites:
            await admin.enrol_client(client, f"{client}-secret", queue)


async def _clear(place: Place) -> None:
    async with place.administrator() as admin:
        for client, queue in place.sites:
            await admin.revoke_client(client, queue)
        await admin.delete_vhost()


def _definitions(place: Place) -> dict[str, Any]:
    return definitions({role: hashed(f"{role}-secret") for role in SERVICES}, vhost=place.vhost)


async def _set_stage(place: Place, engine: AsyncEngine, admin: BrokerAdmin, channel: aiormq.Channel) -> None:
    """Logins are the broker's, not the virtual host's: other tests may have given them other passwords."""
    await empty(engine)
    await enrol(engine, place.sites)
    await admin.declare(_definitions(place))
    for queue in (*_QUEUES, *(queue for _, queue in place.sites)):
        await channel.queue_purge(queue)
