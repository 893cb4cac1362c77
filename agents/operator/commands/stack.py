"""`warren up`, `down`, `status` and `demo`."""

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from agents.operator import place, preparation, services, tables
from agents.operator.answers import Client, Training
from agents.operator.console import err, out, say, say_json, tell
from agents.operator.demo import course
from agents.operator.demo.run import Asked
from agents.operator.demo.run import demo as run_demo
from agents.operator.deployment import Deployment
from agents.operator.errors import NothingRunning, Unreachable
from agents.operator.options import DIR, AsJson, Dir, told_object
from infra.broker.errors import BrokerFault


def up(
    root: Dir = DIR,
    aggregators: Annotated[int, typer.Option(min=1, max=64, help="aggregator workers")] = 2,
    as_json: AsJson = False,
) -> None:
    """Start servers and services, or what of them has died, and say how to reach everything."""
    began = time.monotonic()
    deployment = Deployment.start(root, detached=True)
    programs = deployment.programs(aggregators)
    deployment.launch(programs)
    deployment.wait_until_ready(programs)
    seconds = round(time.monotonic() - began, 1)
    if as_json:
        say_json({"seconds": seconds, **_addresses(deployment)})
    else:
        _direct(deployment, root, seconds)


def down(root: Dir = DIR, as_json: AsJson = False) -> None:
    """Stop the services, then the servers.  The data stays."""
    deployment = Deployment.find(root)
    was_up = [
        *_up(deployment.running()),
        *(name for name, runs in deployment.stack.running().items() if runs),
    ]
    deployment.stop()
    text = f"stopped {', '.join(was_up)}" if was_up else f"nothing was running under {root}"
    tell({"stopped": was_up}, text, as_json=as_json)


def status(root: Dir = DIR, as_json: AsJson = False) -> None:
    """Servers, services, queues, clients and trainings."""
    found = _status(root)
    if as_json:
        say_json({name: _plain(part) for name, part in found.items()})
    else:
        _show(found)


def demo(
    root: Dir = DIR,
    seed: Annotated[int, typer.Option(min=0, help="the same seed gives the same model")] = 7,
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="rounds of federated learning")] = 6,
    strategy: Annotated[
        str, typer.Option(help="how updates become a model: see `warren strategies`")
    ] = "FedAvg",
    options: Annotated[str, typer.Option(help="of the strategy, as a JSON object")] = "{}",
) -> None:
    """Train handwritten digits across four sites, on a stack of its own that ends with it."""
    by = course.strategy(strategy, told_object(options, "--options"))
    run_demo(Asked(root.resolve() / "demo", seed, rounds, by))


def _addresses(deployment: Deployment) -> dict[str, str]:
    """Where everything is, and how to get in."""
    endpoints, logins = deployment.endpoints, deployment.logins
    rabbit, s3 = endpoints.rabbit, endpoints.s3
    return {
        "api_url": services.api_url(logins),
        "api_user": place.ADMIN,
        "api_password": logins.admin,
        "amqp_url": services.admin_broker_url(endpoints),
        "management_url": rabbit.management_url,
        "management_user": rabbit.user,
        "management_password": rabbit.password,
        "database_url": endpoints.postgres.url.replace("+asyncpg", ""),
        "s3_url": s3.url,
        "s3_bucket": s3.bucket,
        "s3_access_key": s3.access_key,
        "s3_secret_key": s3.secret_key,
        "logs": str(deployment.stack.logs),
    }


_DIRECTIONS = """\
  REST API    {api_url}/api/  (pages: {api_url}/docs)
  REST login  {api_user} / {api_password}
  AMQP        {amqp_url}
  management  {management_url}  (login: {management_user} / {management_password})
  PostgreSQL  {database_url}
  S3          {s3_url}  (bucket: {s3_bucket})
  S3 keys     {s3_access_key} / {s3_secret_key}
  logs        {logs}"""


def _direct(deployment: Deployment, root: Path, seconds: float) -> None:
    say(f"Warren is up under {root} after {seconds:.1f} s")
    say(_DIRECTIONS.format(**_addresses(deployment)))
    option = "" if root == DIR else f" --dir {root}"
    say(f"next: warren status{option}, warren clients add NAME{option}, warren down{option}")


def _status(root: Path) -> dict[str, Any]:
    """What of it can be learned: a part that is down leaves its figures out."""
    deployment = Deployment.find(root)
    found: dict[str, Any] = {"servers": deployment.stack.running(), "services": deployment.running()}
    if not any(found["servers"].values()) and not any(found["services"].values()):
        raise NothingRunning(root)
    try:
        found["queues"] = asyncio.run(_depths(deployment))
        with place.api_of(deployment) as api:
            found["clients"], found["trainings"] = api.clients(), api.trainings()
    except (BrokerFault, Unreachable) as fault:
        err.print(f"not everything could be asked: {fault}", markup=False, soft_wrap=True)
    return found


async def _depths(deployment: Deployment) -> dict[str, int]:
    async with preparation.broker_admin(deployment.endpoints.rabbit) as admin:
        return await admin.depths()


def _show(found: dict[str, Any]) -> None:
    servers = {name: "up" if runs else "down" for name, runs in found["servers"].items()}
    out.print(tables.pairs_table(servers))
    out.print(tables.processes_table(found["services"]))
    if "queues" in found:
        out.print(tables.depths_table(found["queues"]))
    if found.get("clients"):
        out.print(tables.clients_table(found["clients"], datetime.now(UTC)))
    if found.get("trainings"):
        out.print(tables.trainings_table(found["trainings"]))


def _plain(part: Any) -> Any:
    if isinstance(part, tuple):
        answers: tuple[Client | Training, ...] = part
        return [answer.model_dump(mode="json") for answer in answers]
    return part


def _up(running: Any) -> list[str]:
    return [name for name, pid in running.items() if pid]
