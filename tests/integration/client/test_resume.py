# ruff: noqa: ASYNC110, ASYNC240 -- tests may look at the disk, and wait by looking
"""kill -9 at each step of the journal: the task ends with one report and one training."""

import asyncio
from pathlib import Path

import pytest

from schemas.commands import TrainingEnded, TrainRound
from schemas.reports import ModelUploaded
from schemas.words import Outcome
from tests.integration.client.platform import Platform
from tests.integration.client.site import Agent
from tests.unit.client.builders import CONTROL_BYTES, MODEL_BYTES

pytestmark = pytest.mark.integration


@pytest.fixture(params=["the model", "the model and a state"])
def order(request: pytest.FixtureRequest, platform: Platform) -> TrainRound:
    """What has to be downloaded."""
    return platform.an_order(state=CONTROL_BYTES if "state" in request.param else None)


async def test_killed_when_received(platform: Platform, agent: Agent, order: TrainRound) -> None:
    agent.start()
    await platform.send(order)
    await agent.until_step("received")
    agent.kill()
    agent.start()
    await platform.send(platform.ticketed(order))
    assert isinstance((await platform.next_report()).data, ModelUploaded)
    assert len(agent.runs) == 1


async def test_killed_between_the_model_and_the_state(platform: Platform, agent: Agent) -> None:
    order = platform.an_order(state=CONTROL_BYTES)
    model = agent.data / "downloads" / f"{order.model.sha256}.safetensors"
    agent.start()
    await platform.send(platform.ticketed(order, "state"))
    async with asyncio.timeout(30):
        while not (model.exists() and "ticket was not valid any more" in agent.log):
            await asyncio.sleep(0.01)
    agent.kill()
    assert agent.steps == ["received"]
    agent.start()
    await platform.send(platform.ticketed(order, "model"))  # it is there: nobody asks the store for it
    assert isinstance((await platform.next_report()).data, ModelUploaded)
    assert len(agent.runs) == 1


async def test_killed_when_downloaded_and_training(
    platform: Platform, agent: Agent, order: TrainRound
) -> None:
    agent.start(HANG="1")
    await platform.send(platform.ticketed(order))
    await agent.until_run()
    agent.kill()
    await _until_gone(agent.runs[0])
    agent.start(HANG="1")
    await platform.send(platform.ticketed(order))
    assert isinstance((await platform.next_report()).data, ModelUploaded)
    assert len(agent.runs) == 2


async def test_killed_when_trained(platform: Platform, agent: Agent, order: TrainRound) -> None:
    agent.start()
    await platform.send(platform.ticketed(order, "update"))
    await agent.until_step("trained")
    agent.kill()
    agent.start()
    await platform.send(platform.ticketed(order))
    assert isinstance((await platform.next_report()).data, ModelUploaded)
    assert platform.update_of(order) == MODEL_BYTES
    assert len(agent.runs) == 1


async def test_killed_when_uploaded(platform: Platform, agent: Agent, order: TrainRound) -> None:
    agent.start()
    await platform.send(platform.ticketed(order, "update"))
    await agent.until_step("trained")
    await platform.forbid_reports(forbidden=True)
    await platform.admin.drop_connections(str(platform.client))  # the broker remembers rights for a while
    await platform.send(platform.ticketed(order))
    await agent.until_step("uploaded")
    agent.kill()
    assert not platform.reports
    await platform.forbid_reports(forbidden=False)
    agent.start()
    assert isinstance((await platform.next_report()).data, ModelUploaded)
    assert len(agent.runs) == 1


async def test_killed_when_reported(platform: Platform, agent: Agent, order: TrainRound) -> None:
    agent.start()
    await platform.send(platform.ticketed(order))
    await agent.until_step("reported")
    agent.kill()
    agent.start()
    await platform.send(platform.ticketed(order))
    again, first = await platform.next_report(2), await platform.next_report(1)
    assert (again.id, again.data) == (first.id, first.data)
    assert len(agent.runs) == 1


async def test_killed_and_the_training_has_ended_meanwhile(
    platform: Platform, agent: Agent, order: TrainRound
) -> None:
    agent.start(HANG="1")
    await platform.send(platform.ticketed(order))
    await agent.until_run()
    agent.kill()
    await platform.send(
        TrainingEnded(training_id=order.training_id, client_id=platform.client, outcome=Outcome.ABORTED)
    )
    agent.start(HANG="1")
    async with asyncio.timeout(30):
        while agent.steps:
            await asyncio.sleep(0.01)
    assert not platform.reports
    assert not list((agent.data / "tasks").iterdir())


async def _until_gone(pid: int) -> None:
    async with asyncio.timeout(10):
        while Path(f"/proc/{pid}").exists():
            await asyncio.sleep(0.01)
