"""restart_s: from exec of a service to its first message handled."""

import asyncio
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from uuid import UUID

from pydantic import SecretStr

from agents.operator.answers import Credentials
from agents.operator.deployment import Deployment
from infra.broker.connection import Connection
from infra.broker.outgoing import outgoing
from infra.broker.publisher import Publisher
from infra.broker.settings import BrokerSettings
from schemas.envelope import enclose
from schemas.identity import derived, task_id
from schemas.ids import ClientId, MessageId, TaskId, TrainingId
from schemas.reports import ModelUploaded, TaskFailed
from schemas.routing import FROM_CLIENTS
from schemas.words import TaskKind
from tests.bench import ground
from tests.bench.ground import Fleet

TIMES = 5
_SETTLE_S = 0.5  # until the message lies in its queue


class Site:
    """A client without an agent: it says what the measurement needs said."""

    def __init__(self, credentials: Credentials, training: UUID) -> None:
        self.client, self.training = ClientId(credentials.client_id), TrainingId(training)
        self._broker = BrokerSettings(url=SecretStr(credentials.amqp_url))
        self._asked = 0

    def fail(self) -> None:
        """Like a useless upload it makes the scheduler ask again, under the next task id."""
        self._say(
            TaskFailed(
                training_id=self.training,
                client_id=self.client,
                round=0,
                task_id=self._next_task(),
                reason="the bench wants to be asked again",
            )
        )

    def upload(self) -> None:
        self._say(
            ModelUploaded(
                training_id=self.training,
                client_id=self.client,
                round=0,
                task_id=self._next_task(),
                sha256="0" * 64,
                num_examples=1,
            )
        )

    def _next_task(self) -> TaskId:
        self._asked += 1
        return task_id(self.training, TaskKind.TRAIN, 0, 1, self.client, self._asked)

    def _say(self, report: TaskFailed | ModelUploaded) -> None:
        asyncio.run(self._publish(report))

    async def _publish(self, report: TaskFailed | ModelUploaded) -> None:
        said = enclose(
            report,
            id=MessageId(derived("bench", report.task_id)),
            source="bench",
            time=datetime.now(UTC),
        )
        route = FROM_CLIENTS[report.type]
        async with Connection(self._broker, "bench") as line:
            await Publisher(line).publish(
                outgoing(said, route.exchange, route.key_for(report, str(self.client)))
            )


def report(deployment: Deployment, fleet: Fleet) -> list[str]:
    site = _a_site_in_a_training(deployment)
    schedulers, workers = [], []
    for _ in range(TIMES):
        schedulers.append(_restart(fleet, ("scheduler",), site.fail, "training advanced"))
        workers.append(_restart(fleet, ground.WORKERS, site.upload, "command was done"))
    return [_line("scheduler", schedulers), _line("aggregator", workers)]


def _line(name: str, found: list[float]) -> str:
    spread = f"median={median(found):.3f} min={min(found):.3f} max={max(found):.3f}"
    return f"restart_s service={name} times={TIMES} {spread}"


def _a_site_in_a_training(deployment: Deployment) -> Site:
    api = ground.owner(deployment)
    user = api.add_user("bench-site", client=True)
    assert user.credentials is not None
    training = api.add_training(
        {
            "model_id": str(ground.a_model(api, deployment.root)),
            "target_num_updates": 1,
            "metric_names": [],
            "aggregation_method": "FedAvg",
            "clients": [str(user.id)],
            "participation": {"task_attempts": 100},
        }
    )
    api.start(training)
    while not any(event.type == "RoundStarted" for event in api.events(training)):
        time.sleep(0.05)
    return Site(user.credentials, training)


def _restart(fleet: Fleet, names: tuple[str, ...], say: Callable[[], None], sentence: str) -> float:
    """Kill them; once their message waits, start the first one.  The others follow when it is measured."""
    for name in names:
        fleet.kill(name)
    say()
    time.sleep(_SETTLE_S)
    log = fleet.logs / f"{names[0]}.log"
    seen, began = log.stat().st_size, datetime.now(UTC)
    fleet.start(names[0])
    handled = _first(log, seen, sentence)
    for name in names[1:]:
        fleet.start(name)
    return (handled - began).total_seconds()


def _first(log: Path, seen: int, sentence: str) -> datetime:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for line in log.read_bytes()[seen:].splitlines(keepends=True):
            if line.endswith(b"\n") and json.loads(line)["said"] == sentence:
                return datetime.fromisoformat(json.loads(line)["at"])
        time.sleep(0.01)
    raise TimeoutError(f"{log.name} did not say {sentence!r}")
