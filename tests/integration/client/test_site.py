# ruff: noqa: ASYNC110, ASYNC240 -- tests may look at the disk, and wait by looking
"""An agent and its platform: good days and bad ones."""

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from aiormq.abc import DeliveredMessage
from numpy.typing import NDArray
from safetensors.numpy import save

from infra.broker.delivery import SENDER_HEADER
from schemas.commands import CancelTask
from schemas.ids import ClientId
from schemas.reports import ClientRejected, ModelUploaded, TaskFailed
from schemas.routing import ORIGIN_HEADER, REASON_HEADER
from schemas.words import Extra, UpdateKind
from tests.integration.client.conftest import MakeAgent
from tests.integration.client.platform import Platform
from tests.integration.client.proxy import Proxy
from tests.integration.client.site import Agent
from tests.unit.client.builders import CONTROL, CONTROL_BYTES, MODEL_BYTES, WEIGHTS

pytestmark = pytest.mark.integration

UNREADABLE = b'{"specversion": "1.0", "type": "TrainRound", "data": {"type": "TrainRound"}}'
TRAINER = """
class Same:
    def train(self, weights, config):
        return weights, 1, {}
    def test(self, weights, config):
        return 1, {}
"""


async def test_a_round_is_trained_uploaded_and_reported_under_the_clients_own_name(
    platform: Platform, agent: Agent
) -> None:
    agent.start()
    await platform.send(platform.ticketed(order := platform.an_order()))
    report = await platform.next_report()
    assert isinstance(report.data, ModelUploaded)
    assert (report.data.num_examples, report.data.sha256) == (7, order.model.sha256)
    assert report.source == f"client/{platform.client}"
    assert platform.users == {str(platform.client)}
    assert platform.update_of(order) == MODEL_BYTES


async def test_heartbeats_name_the_tasks_in_hand_and_go_on_while_user_code_runs(
    platform: Platform, agent: Agent
) -> None:
    agent.start(HANG="1")
    await platform.send(platform.ticketed(order := platform.an_order()))
    await _until(lambda: sum(beat.tasks == (order.task_id,) for beat in platform.heartbeats) >= 3)


async def test_told_to_stop_it_finishes_reports_and_says_goodbye(platform: Platform, agent: Agent) -> None:
    agent.start(TAKES="0.5")
    await platform.send(platform.ticketed(platform.an_order()))
    await agent.until_run()
    assert agent.end(signal.SIGTERM) == 0
    assert isinstance((await platform.next_report()).data, ModelUploaded)
    await _until(lambda: platform.heartbeats[-1].leaving)


async def test_told_to_stop_it_does_not_wait_longer_than_it_may_and_resumes(
    platform: Platform, agent: Agent
) -> None:
    agent.start(HANG="1", WARREN_AGENT_GRACE_S="0.1")
    await platform.send(platform.ticketed(order := platform.an_order()))
    await agent.until_run()
    assert agent.end(signal.SIGINT) == 0
    assert not Path(f"/proc/{agent.runs[0]}").exists()
    agent.start()
    await platform.send(platform.ticketed(order))
    assert isinstance((await platform.next_report()).data, ModelUploaded)


async def test_a_cancelled_task_is_stopped_and_the_next_one_runs(platform: Platform, agent: Agent) -> None:
    agent.start(HANG="1")
    await platform.send(platform.ticketed(order := platform.an_order()))
    await agent.until_run()
    cancel = CancelTask(
        training_id=order.training_id,
        task_id=order.task_id,
        client_id=platform.client,
        round=0,
        reason="enough came",
    )
    await platform.send(cancel)
    await platform.send(platform.ticketed(after := platform.an_order()))
    report = (await platform.next_report()).data
    assert isinstance(report, ModelUploaded)
    assert report.task_id == after.task_id


async def test_user_code_that_hangs_past_the_deadline_fails_its_task(
    platform: Platform, agent: Agent
) -> None:
    agent.start(HANG="1")
    await platform.send(platform.ticketed(platform.an_order(deadline_s=3)))
    report = (await platform.next_report()).data
    assert isinstance(report, TaskFailed)
    assert "deadline" in report.reason
    await _until(lambda: not Path(f"/proc/{agent.runs[0]}").exists())


async def test_what_is_no_command_or_not_for_us_ends_as_a_dead_letter_with_the_reason_and_stops_nothing(
    platform: Platform, agent: Agent
) -> None:
    order = platform.an_order()
    foreign = order.model_copy(update={"client_id": ClientId(platform.training)})
    await platform.send_raw(b"garbage")
    await platform.send(order, UNREADABLE)
    await platform.send(foreign)
    await platform.send(platform.ticketed(platform.an_order()))
    agent.start()
    assert isinstance((await platform.next_report()).data, ModelUploaded)
    garbage, unreadable, not_ours = [await platform.next_dead_letter() for _ in range(3)]
    assert (garbage.body, unreadable.body) == (b"garbage", UNREADABLE)
    assert _reason(garbage) == "malformed: message: Invalid JSON: expected value at line 1 column 1"
    assert _reason(unreadable).startswith("malformed: id: Field required")
    assert _reason(not_ours) == f"not_for_us: the command is for client {foreign.client_id}"
    assert {letter.routing_key for letter in (garbage, unreadable, not_ours)} == {
        f"{platform.client}.Refused"
    }
    headers = not_ours.header.properties.headers or {}
    assert (headers[ORIGIN_HEADER], headers[SENDER_HEADER]) == (platform.queue, "scheduler")
    assert not_ours.header.properties.user_id == str(platform.client)


async def test_what_was_refused_stays_in_the_queue_until_the_broker_has_it_as_a_dead_letter(
    platform: Platform, agent: Agent
) -> None:
    await platform.forbid_reports(forbidden=True)
    await platform.send_raw(b"garbage")
    agent.start()
    await _until(lambda: f"{platform.client}.Refused" in agent.log)
    agent.kill()
    await _until_waiting(platform, platform.queue)
    assert await platform.depth("dead-letters") == 0
    await platform.forbid_reports(forbidden=False)
    agent.start()
    assert (await platform.next_dead_letter()).body == b"garbage"
    await platform.send(platform.ticketed(platform.an_order()))
    assert isinstance((await platform.next_report()).data, ModelUploaded)


async def test_a_site_may_refuse_a_training(
    platform: Platform, tmp_path: Path, make_agent: MakeAgent
) -> None:
    (tmp_path / "policy.toml").write_text(f'refuse = ["{platform.training}"]')
    (tmp_path / "train.py").touch()
    options = ("--script", str(tmp_path / "train.py"), "--policy", str(tmp_path / "policy.toml"))
    make_agent(platform.credentials(tmp_path), *options).start()
    await platform.send(platform.ticketed(platform.an_order()))
    assert isinstance((await platform.next_report()).data, ClientRejected)


async def test_wrong_credentials_end_the_agent_with_code_2_and_a_sentence(
    platform: Platform, tmp_path: Path, make_agent: MakeAgent
) -> None:
    agent = make_agent(platform.credentials(tmp_path, password="wrong"))
    agent.start()
    assert agent.exit_code() == 2
    assert "does not know login" in agent.log
    assert "wrong" not in agent.log


async def test_a_broker_that_is_away_at_the_start_and_later_costs_time_only(
    platform: Platform, tmp_path: Path, make_agent: MakeAgent
) -> None:
    host, _, vhost = platform.place.partition("/")
    line = Proxy(host)
    await line.up()
    await line.down()
    agent = make_agent(platform.credentials(tmp_path, place=f"127.0.0.1:{line.port}/{vhost}"))
    agent.start(TAKES="0.5")
    await _until(lambda: "broker was not reached" in agent.log)
    await line.up()
    await platform.send(platform.ticketed(platform.an_order()))
    await agent.until_run()
    await line.down()
    await agent.until_step("uploaded")
    await line.up()
    assert isinstance((await platform.next_report()).data, ModelUploaded)
    await platform.send(platform.ticketed(platform.an_order()))
    assert isinstance((await platform.next_report(2)).data, ModelUploaded)
    assert len(agent.runs) == 2
    await line.down()


async def test_a_trainer_class_answers_task_after_task(
    platform: Platform, tmp_path: Path, make_agent: MakeAgent
) -> None:
    (tmp_path / "same.py").write_text(TRAINER)
    make_agent(platform.credentials(tmp_path), "--trainer", "same:Same").start()
    for number in range(1, 4):
        await platform.send(platform.ticketed(platform.an_order()))
        assert isinstance((await platform.next_report(number)).data, ModelUploaded)


SCAFFOLD = """
import json, os
from safetensors.numpy import load_file, save_file
weights, state = (load_file(os.environ[name]) for name in ("WARREN_MODEL_IN", "WARREN_STATE_IN"))
if os.environ.get("WARREN_PARTIAL"):
    weights, state = {"bias": weights["bias"]}, {"bias": state["bias"]}
if os.environ["WARREN_UPDATE_KIND"] == "delta":
    weights = {name: value - value for name, value in weights.items()}
extra = {f"{os.environ['WARREN_EXTRA']}/{name}": 2 * value for name, value in state.items()}
save_file(extra | weights, os.environ["WARREN_UPDATE_OUT"], metadata={"by": "a site"})
json.dump({"num_examples": 7}, open(os.environ["WARREN_RESULT_OUT"], "w"))
"""
DOUBLED = {f"control/{name}": 2 * value for name, value in CONTROL.items()}
BIAS = WEIGHTS["bias"]


@pytest.mark.parametrize(
    ("wishes", "update"),
    [
        ({}, WEIGHTS | DOUBLED),
        (
            {"partial": True, "update": UpdateKind.DELTA},
            {"bias": BIAS - BIAS, "control/bias": DOUBLED["control/bias"]},
        ),
    ],
)
async def test_a_site_is_given_the_strategys_state_and_uploads_what_is_asked_for(
    platform: Platform,
    tmp_path: Path,
    make_agent: MakeAgent,
    wishes: dict[str, object],
    update: dict[str, NDArray[np.generic]],
) -> None:
    (script := tmp_path / "scaffold.py").write_text(SCAFFOLD)
    agent = make_agent(platform.credentials(tmp_path), "--script", str(script))
    agent.start()
    order = platform.an_order(state=CONTROL_BYTES, extra=Extra.CONTROL).model_copy(update=wishes)
    await platform.send(platform.ticketed(order))
    assert isinstance((await platform.next_report()).data, ModelUploaded)
    assert platform.update_of(order) == save(update)


async def test_an_update_that_lacks_what_was_asked_for_fails_its_task_with_its_name(
    platform: Platform, agent: Agent
) -> None:
    agent.start()
    await platform.send(platform.ticketed(platform.an_order(extra=Extra.SECOND_MOMENT)))
    report = (await platform.next_report()).data
    assert isinstance(report, TaskFailed)
    assert report.reason == "the update lacks second_moment/bias and 1 more"


async def test_no_url_and_no_password_is_ever_logged_or_kept(platform: Platform, agent: Agent) -> None:
    agent.start()
    await platform.send(platform.ticketed(order := platform.an_order(state=CONTROL_BYTES)))
    await platform.next_report()
    agent.kill()
    kept = [path.read_bytes() for path in agent.data.rglob("*") if path.is_file()]
    for secret in ("X-Amz-Signature", f"{platform.client}-secret"):
        assert secret not in agent.log
        assert not [content for content in kept if secret.encode() in content]
    assert str(order.task_id) in agent.log or kept


async def _until(claim: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not claim():
            await asyncio.sleep(0.01)


async def _until_waiting(platform: Platform, queue: str) -> None:
    async with asyncio.timeout(20):
        while not await platform.depth(queue):
            await asyncio.sleep(0.02)


def _reason(letter: DeliveredMessage) -> str:
    return str((letter.header.properties.headers or {})[REASON_HEADER])
