"""round_overhead_s: what the platform adds to a round beyond its slowest client."""

import json
from datetime import datetime
from pathlib import Path
from statistics import median
from uuid import UUID

from agents.operator.deployment import Deployment
from tests.bench import ground
from tests.bench.ground import Fleet

ROUNDS = 30

Steps = dict[tuple[str, int], datetime]  # by step and round


def overhead_s(deployment: Deployment, fleet: Fleet, clients: int) -> tuple[float, ...]:
    """Per round: its whole time less that of its slowest client, from having the task to having uploaded."""
    api, root = ground.owner(deployment), deployment.root
    names = tuple(f"bench-{clients}-{number}" for number in range(clients))
    enrolled = [api.add_user(name, client=True) for name in names]
    fleet.launch(
        ground.agent(name, user.credentials, root)
        for name, user in zip(names, enrolled, strict=True)
        if user.credentials
    )
    training = api.add_training(
        {
            "model_id": str(ground.a_model(api, root)),
            "target_num_updates": ROUNDS,
            "metric_names": [],
            "aggregation_method": "FedAvg",
            "clients": [str(user.id) for user in enrolled],
            "evaluation": {"every": 0},
        }
    )
    api.start(training)
    ground.until_over(api, training, 120)
    fleet.stop(names)
    return _overheads([_steps(fleet.logs / f"{name}.log", training) for name in names])


def _overheads(sites: list[Steps]) -> tuple[float, ...]:
    """The first round is left out: its user code had to be started."""
    return tuple(_round_s(sites, number) - _slowest_s(sites, number) for number in range(1, ROUNDS - 1))


def _round_s(sites: list[Steps], number: int) -> float:
    """From one round's first task being with its client to the next one's."""
    first, following = (min(steps["received", n] for steps in sites) for n in (number, number + 1))
    return (following - first).total_seconds()


def _slowest_s(sites: list[Steps], number: int) -> float:
    return max((steps["uploaded", number] - steps["received", number]).total_seconds() for steps in sites)


def _steps(log: Path, training: UUID) -> Steps:
    """When the site's task of each round had come so far, as its agent logged it."""
    lines = map(json.loads, log.read_text().splitlines())
    return {
        (line["step"], line["round"]): datetime.fromisoformat(line["at"])
        for line in lines
        if "step" in line and line["training"] == str(training)
    }


def report(deployment: Deployment, fleet: Fleet) -> list[str]:
    lines = []
    for clients in (3, 10):
        found = overhead_s(deployment, fleet, clients)
        spread = f"median={median(found):.4f} min={min(found):.4f} max={max(found):.4f}"
        lines.append(f"round_overhead_s clients={clients} rounds={ROUNDS} {spread}")
    return lines
