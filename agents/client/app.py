"""Puts the agent together, runs it, and stops it without losing anything."""

import asyncio
import logging
import shutil
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import ClassVar

from agents.client.broker import BrokerUplink, open_patiently, take_commands
from agents.client.credentials import Credentials, read_credentials, sole_user_of
from agents.client.downloads import Downloads
from agents.client.handlers import Commands, settle
from agents.client.policy import Policy, read_policy
from agents.client.presence import beat, heartbeat
from agents.client.runner import Runner
from agents.client.scripts import ScriptRunner, UserCode, WarmScriptRunner
from agents.client.settings import Settings, inherited_environment
from agents.client.store import SqliteJournal
from agents.client.tasks import Tasks
from agents.client.trainers import TrainerRunner
from agents.client.transfer import HttpTransfer, Transfer
from agents.client.uplink import Uplink
from agents.client.work import Work
from infra.broker.connection import Connection
from infra.broker.publisher import Publisher
from infra.broker.supervise import supervise
from infra.process import run_until_stopped
from schemas.refusal import Refusal

log = logging.getLogger(__name__)

REFUSED_TO_START = 2
_LAST_WORD_S = 2.0


class UserCodeMissing(Refusal):
    code: ClassVar[str] = "user_code_missing"


@dataclass(frozen=True, slots=True)
class Agent:
    settings: Settings
    credentials: Credentials
    journal: SqliteJournal
    tasks: Tasks
    commands: Commands
    uplink: Uplink
    runner: Runner
    transfer: Transfer
    lines: tuple[Connection, Connection]  # to take commands, to report


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; the exit code.  2: it cannot start like this."""
    try:
        run_until_stopped(partial(_serve, settings), settings.log_level)
    except Refusal as no:
        log.error("agent could not start", extra={"code": no.code, "reason": str(no)})
        return REFUSED_TO_START
    return 0


def create_agent(settings: Settings, credentials: Credentials, policy: Policy) -> Agent:
    data, client = settings.data.resolve(), credentials.client
    lines = (
        Connection(credentials.broker, "agent commands"),
        Connection(credentials.broker, "agent reports"),
    )
    uplink = BrokerUplink(Publisher(lines[1]), client)
    journal = SqliteJournal(data / "journal.db")
    journal.expire(datetime.now(UTC) - timedelta(days=settings.keep_closed_days))
    runner, transfer = create_runner(settings), HttpTransfer()
    work = Work(data, Downloads(data / "downloads"), transfer, runner)
    tasks = Tasks(journal, work, uplink, parallel=settings.parallel_tasks)
    commands = Commands(client, tasks, policy, keep_state=settings.keep_state)
    return Agent(settings, credentials, journal, tasks, commands, uplink, runner, transfer, lines)


def create_runner(settings: Settings) -> Runner:
    how = UserCode(
        executor=settings.executor,
        cwd=settings.workdir.resolve(),
        env=inherited_environment(),
        patience_s=settings.patience_s,
    )
    if settings.trainer:
        return TrainerRunner(settings.trainer, how)
    assert settings.script, "the settings say one or the other"
    script = settings.script.resolve()
    if not script.is_file():
        raise UserCodeMissing(f"there is no training script {script}")
    if shutil.which(settings.executor, path=how.env.get("PATH")) is None:
        raise UserCodeMissing(f"there is no program {settings.executor} to run the training script")
    if settings.preload:
        return WarmScriptRunner(script, settings.preload, how, settings.parallel_tasks)
    return ScriptRunner(script, how)


async def _serve(settings: Settings, stop: asyncio.Event) -> None:
    credentials, policy = read_credentials(settings.credentials), read_policy(settings.policy)
    with sole_user_of(settings.data):
        await _attend(create_agent(settings, credentials, policy), stop)


async def _attend(agent: Agent, stop: asyncio.Event) -> None:
    log.info("agent was started", extra={"client": str(agent.credentials.client)})
    if isinstance(agent.runner, WarmScriptRunner):
        await agent.runner.warm_up()
    agent.tasks.resume()
    beating = asyncio.create_task(supervise("heartbeat", lambda: _beat(agent)))
    taking = asyncio.create_task(_take(agent))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({taking, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await _end(stopping)
        refusal = await _end(taking)
        await _leave(agent, beating)
    if refusal:
        raise refusal


async def _beat(agent: Agent) -> None:
    client, tasks = agent.credentials.client, agent.tasks
    await beat(
        agent.uplink,
        lambda: heartbeat(client, tasks.in_hand, tasks.waiting),
        agent.settings.heartbeat_s,
    )


async def _take(agent: Agent) -> None:
    """Only the first login is decisive: later, somebody may put right what was revoked by mistake."""
    line, settings = agent.lines[0], agent.settings
    settled = partial(settle, agent.commands, agent.uplink)
    await open_patiently(line)

    async def attend() -> None:
        await open_patiently(line)
        await take_commands(line, agent.credentials.queue, settings.prefetch, settled)

    await supervise("commands", attend)


async def _leave(agent: Agent, beating: asyncio.Task[None]) -> None:
    await agent.tasks.leave(agent.settings.grace_s)
    await _end(beating)
    with suppress(TimeoutError):
        async with asyncio.timeout(_LAST_WORD_S):
            await agent.uplink.beat(heartbeat(agent.credentials.client, leaving=True))
    await agent.runner.close()
    await agent.transfer.close()
    for line in agent.lines:
        await line.close()
    agent.journal.close()
    log.info("agent has left", extra={"client": str(agent.credentials.client)})


async def _end(task: asyncio.Task[None] | asyncio.Task[bool]) -> BaseException | None:
    """Cancel it; what it raised before that, if anything."""
    task.cancel()
    await asyncio.wait({task})
    return None if task.cancelled() else task.exception()
