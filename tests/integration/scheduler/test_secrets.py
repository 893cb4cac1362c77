"""URLs that let somebody in go to the client they are for, and nowhere else."""

import logging
from typing import Any

import pytest
from sqlalchemy import select

from infra.broker.connection import Connection
from infra.broker.event_log import read_events
from infra.database.tables import metadata
from schemas.commands import AbortTraining, TrainRound
from tests.integration.scheduler.small import LAYOUT, a_training
from tests.integration.scheduler.test_relay import make_due
from tests.scene import Scene
from tests.sites import attending, granted, honest, silent

pytestmark = pytest.mark.integration

CANARY = "X-Amz-Signature"


async def everything_in_the_tables(scene: Scene) -> list[tuple[str, Any]]:
    return [
        (table.name, value)
        for table in metadata.sorted_tables
        for row in await scene.rows(select(table))
        for value in row
    ]


async def everything_in_the_event_log(scene: Scene) -> list[bytes]:
    rabbit = scene.place.endpoints.rabbit
    async with Connection(scene.place.login(rabbit.user, rabbit.password), "test reader") as line:
        return [body async for _, body in read_events(line, idle_s=0.5)]


def gives_away(value: object) -> bool:
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    return CANARY in text


async def test_urls_are_in_no_table_no_event_and_no_log(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    for quiet in ("aiormq", "aio_pika", "httpx", "httpcore", "urllib3"):  # as in the services' own logs
        caplog.set_level(logging.WARNING, quiet)
    caplog.set_level(logging.DEBUG)
    start, other = await a_training(scene, rounds=2, evaluate_every=1), await a_training(scene)
    async with attending(scene, LAYOUT, honest) as sites, scene.running():
        await scene.order(start)
        assert await scene.ended(start.training_id) == "completed"
        (heard, *_) = sites.orders(TrainRound, start.training_id)
    async with attending(scene, LAYOUT, silent) as sites, scene.running():
        await scene.order(other)
        await sites.told(TrainRound, other.training_id, len(scene.place.clients))
        await make_due(scene)
        await sites.told(TrainRound, other.training_id, 2 * len(scene.place.clients))
        await scene.order(AbortTraining(training_id=other.training_id, reason="enough"))
        await scene.ended(other.training_id)
    assert gives_away(granted(heard).upload_url), "the canary sings where it should"
    assert [name for name, value in await everything_in_the_tables(scene) if gives_away(value)] == []
    assert not any(map(gives_away, await everything_in_the_event_log(scene)))
    said = [(record.name, record.getMessage(), vars(record)) for record in caplog.records]
    assert [name for name, *facts in said if gives_away(facts)] == []
    assert {name.partition(".")[0] for name, *_ in said} >= {"services", "infra"}


async def test_a_ticket_is_bound_to_its_task(scene: Scene) -> None:
    start = await a_training(scene)
    async with attending(scene, LAYOUT, silent) as sites, scene.running(aggregators=0):
        await scene.order(start)
        heard = await sites.told(TrainRound, start.training_id, len(scene.place.clients))
    uploads = {str(each.task_id): granted(each).upload_url or "" for each in heard}
    assert len(set(uploads.values())) == len(heard)
    assert all(task in url for task, url in uploads.items())
    assert all(order.client_id == client for client, orders in sites.heard.items() for order in orders)
