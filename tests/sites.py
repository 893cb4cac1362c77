"""Sites that answer what they are asked: honestly, or as a test says."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx

from infra.broker.connection import Connection
from infra.broker.consumer import consuming
from infra.broker.outgoing import Outgoing, outgoing
from infra.broker.publisher import Publisher
from infra.weights.layout import Layout
from schemas.commands import Access, ClientCommand, EvaluateModel, TrainingEnded, TrainRound
from schemas.envelope import decode, enclose
from schemas.identity import derived
from schemas.ids import ClientId, MessageId, TrainingId
from schemas.message import Message
from schemas.reports import MetricsReported, ModelUploaded
from schemas.routing import FROM_CLIENTS
from tests.recompute import sha256_of, trained
from tests.scene import Scene, until

Behaviour = Callable[["Sites", ClientCommand], Awaitable[None]]


@dataclass
class Sites:
    """All clients of a place, each with its own login."""

    scene: Scene
    layout: Layout
    http: httpx.AsyncClient
    heard: dict[ClientId, list[ClientCommand]] = field(default_factory=lambda: defaultdict(list))
    publishers: dict[ClientId, Publisher] = field(default_factory=dict)

    async def update(self, command: TrainRound) -> bytes:
        """What the client makes of the model, the same whenever it is asked."""
        model = (await self.http.get(granted(command).download_url)).raise_for_status().content
        return trained(self.layout, model, [self.number(command.client_id), command.round])

    async def upload(self, command: TrainRound, content: bytes) -> int:
        access = granted(command)
        assert access.upload_url
        headers = {k: v for k, v in access.upload_headers.items() if k.lower() != "content-length"}
        answer = await self.http.put(access.upload_url, content=content, headers=headers)
        return answer.status_code

    async def tell_uploaded(self, command: TrainRound, content: bytes, **changes: Any) -> None:
        facts = {
            "sha256": sha256_of(content),
            "num_examples": 10 + self.number(command.client_id),
            "metrics": {"loss": 0.5},
        }
        await self.tell(ModelUploaded(**_named(command), **{**facts, **changes}))

    async def tell(self, report: Any) -> None:
        await self.publishers[report.client_id].publish(a_report(report))

    def number(self, client: ClientId) -> int:
        return self.scene.place.clients.index(client)

    def orders(self, kind: type[Message], training: TrainingId) -> list[Any]:
        """All commands of that kind that any client has heard."""
        said = (command for commands in self.heard.values() for command in commands)
        return [each for each in said if isinstance(each, kind) and each.training_id == training]

    async def told(self, kind: type[Message], training: TrainingId, count: int) -> list[Any]:
        """Wait until that many commands of a kind have been heard."""

        async def enough() -> bool:
            return len(self.orders(kind, training)) >= count

        await until(enough, 20)
        return self.orders(kind, training)


async def honest(sites: Sites, command: ClientCommand) -> None:
    match command:
        case TrainRound():
            update = await sites.update(command)
            assert await sites.upload(command, update) == 200
            await sites.tell_uploaded(command, update)
        case EvaluateModel():
            metrics = {"accuracy": 0.5}
            await sites.tell(MetricsReported(**_named(command), num_examples=4, metrics=metrics))


async def silent(sites: Sites, command: ClientCommand) -> None:
    """Hears everything, says nothing."""


@asynccontextmanager
async def attending(scene: Scene, layout: Layout, behaviour: Behaviour = honest) -> AsyncIterator[Sites]:
    async with httpx.AsyncClient(timeout=30, trust_env=False) as http:
        sites = Sites(scene, layout, http)
        tasks = [asyncio.create_task(_attend(sites, *site, behaviour)) for site in scene.place.sites]
        await until(lambda: _all_there(sites))
        try:
            yield sites
        finally:
            for task in tasks:
                task.cancel()
            found = await asyncio.gather(*tasks, return_exceptions=True)
        faults = [each for each in found if isinstance(each, Exception)]
        if faults:
            raise faults[0]


async def _attend(sites: Sites, client: ClientId, queue: str, behaviour: Behaviour) -> None:
    settings = sites.scene.place.login(str(client))
    async with Connection(settings, "test site") as line:
        sites.publishers[client] = Publisher(line)
        async with consuming(line, sites.publishers[client], (queue,), prefetch=50) as batches:
            async for batch in batches.batches():
                await batches.ack(batch)
                for delivery in batch:
                    command = decode(delivery.body, ClientCommand).data
                    sites.heard[client].append(command)
                    await behaviour(sites, command)


async def _all_there(sites: Sites) -> bool:
    return len(sites.publishers) == len(sites.scene.place.clients)


def a_report(report: Any, *, key: str | None = None) -> Outgoing:
    """As a client's agent makes it."""
    named = derived("report", report.model_dump_json())
    envelope = enclose(report, id=MessageId(named), source="test", time=datetime.now(UTC))
    route = FROM_CLIENTS[report.type]
    return outgoing(envelope, route.exchange, key or route.key_for(report, sender=str(report.client_id)))


def granted(command: TrainRound | EvaluateModel) -> Access:
    assert command.access is not None
    return command.access


def _named(command: TrainRound | EvaluateModel) -> dict[str, Any]:
    return command.model_dump(include={"training_id", "task_id", "client_id", "round"})


async def told_the_end(sites: Sites, training: TrainingId) -> list[TrainingEnded]:
    """What each client was told, one message each."""
    return await sites.told(TrainingEnded, training, len(sites.scene.place.clients))
