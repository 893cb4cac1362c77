"""uploads_absorbed_per_s: reports of one large training, waiting in the queue, taken in by one scheduler."""

import asyncio
import hashlib
import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from statistics import median
from uuid import UUID, uuid4

import aiormq
from pydantic import SecretStr
from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncEngine

from agents.operator.deployment import Deployment
from agents.operator.services import admin_broker_url, broker_url
from infra.broker.connection import Connection
from infra.broker.delivery import KEY_HEADER, SENDER_HEADER
from infra.broker.outgoing import Outgoing, outgoing
from infra.broker.publisher import Publisher
from infra.broker.settings import BrokerSettings
from infra.database.engine import connect
from infra.database.tables import clients, events, users
from schemas.envelope import enclose
from schemas.identity import derived, task_id
from schemas.ids import ClientId, MessageId, TrainingId
from schemas.reports import ModelUploaded
from schemas.routing import Exchange
from schemas.words import TaskKind
from tests.bench import ground
from tests.bench.ground import Fleet

CLIENTS = 2_000
TIMES = 3


def report(deployment: Deployment, fleet: Fleet) -> list[str]:
    for worker in ground.WORKERS:
        fleet.kill(worker)  # what they do with the uploads is not what is measured
    rates = [asyncio.run(_absorbed_per_s(deployment, fleet)) for _ in range(TIMES)]
    for worker in ground.WORKERS:
        fleet.start(worker)
    return [
        f"uploads_absorbed_per_s clients={CLIENTS} times={TIMES} median={median(rates):.0f} "
        f"min={min(rates):.0f} max={max(rates):.0f}"
    ]


async def _absorbed_per_s(deployment: Deployment, fleet: Fleet) -> float:
    engine = connect(deployment.endpoints.postgres.url)
    sites = [ClientId(uuid4()) for _ in range(CLIENTS)]
    await _enrol(deployment, engine, sites)
    training = await asyncio.to_thread(_start, deployment, sites)
    await _until(engine, training, "RoundStarted", 1)
    fleet.kill("scheduler")
    await _queue_reports(deployment, training, sites)
    fleet.start("scheduler")
    began = await _until(engine, training, "ModelUploaded", 1)
    ended = await _until(engine, training, "ModelUploaded", CLIENTS)
    await engine.dispose()
    await asyncio.to_thread(ground.owner(deployment).abort, training, "measured")
    return CLIENTS / (ended - began)


async def _enrol(deployment: Deployment, engine: AsyncEngine, sites: list[ClientId]) -> None:
    """As rows, and with one queue for all of them: the broker's part is not what is measured."""
    async with engine.begin() as connection:
        await connection.execute(
            insert(users),
            [{"id": site, "username": str(site), "password_hash": "", "client": True} for site in sites],
        )
        await connection.execute(insert(clients), [{"id": site, "queue": f"bench.{site}"} for site in sites])
    line = await aiormq.connect(admin_broker_url(deployment.endpoints))
    channel = await line.channel()
    queue = f"bench.{uuid4()}"
    await channel.queue_declare(queue, durable=True)
    for site in sites:
        await channel.queue_bind(queue, Exchange.CLIENTS, str(site))
    await line.close()


def _start(deployment: Deployment, sites: list[ClientId]) -> TrainingId:
    api = ground.owner(deployment)
    training = api.add_training(
        {
            "model_id": str(ground.a_model(api, deployment.root)),
            "target_num_updates": 1,
            "metric_names": [],
            "aggregation_method": "FedAvg",
            "clients": [str(site) for site in sites],
        }
    )
    api.start(training)
    return TrainingId(training)


async def _queue_reports(deployment: Deployment, training: TrainingId, sites: list[ClientId]) -> None:
    """As the scheduler puts messages back after a fault: only its own login may name another sender."""
    url = broker_url(deployment.endpoints, "scheduler", deployment.logins.scheduler)
    async with Connection(BrokerSettings(url=SecretStr(url)), "bench") as line:
        await Publisher(line).publish_all(_reports(training, sites))


def _reports(training: TrainingId, sites: list[ClientId]) -> Iterable[Outgoing]:
    for site in sites:
        task = task_id(training, TaskKind.TRAIN, 0, 1, site, 1)
        said = ModelUploaded(
            training_id=training,
            task_id=task,
            client_id=site,
            round=0,
            sha256=hashlib.sha256(site.bytes).hexdigest(),
            num_examples=100,
            metrics={"loss": 1.0},
        )
        envelope = enclose(said, id=MessageId(derived("bench", task)), source="bench", time=datetime.now(UTC))
        message = outgoing(envelope, Exchange.COMMANDS, f"scheduler.{said.type}")
        headers = {**message.headers, SENDER_HEADER: str(site), KEY_HEADER: f"{site}.{said.type}"}
        yield replace(message, headers=headers)


async def _until(engine: AsyncEngine, training: UUID, type_: str, count: int) -> float:
    """The moment at which so many events of the type are committed."""
    counted = select(func.count()).where(events.c.training_id == training, events.c.type == type_)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        async with engine.connect() as connection:
            if (await connection.execute(counted)).scalar_one() >= count:
                return time.monotonic()
        await asyncio.sleep(0.002)
    raise TimeoutError(f"not {count} {type_} in 60 s")
