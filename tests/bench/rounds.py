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


def overhead_s(deployment: Deployment, fleet: Fleet, clients: int) -> tuple[float, ...]:
    """Per round: from the last client's upload being done to the next round's task being with all clients."""
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
    return _gaps([fleet.logs / f"{name}.log" for name in names], training)


def _gaps(logs: list[Path], training: UUID) -> tuple[float, ...]:
    received = {step: [_last(logs, training, step, number) for number in range(ROUNDS)] for step in _STEPS}
    uploads, tasks = received["uploaded"], received["received"]
    return tuple((tasks[n + 1] - uploads[n]).total_seconds() for n in range(ROUNDS - 1))


_STEPS = ("received", "uploaded")


def _last(logs: list[Path], training: UUID, step: str, number: int) -> datetime:
    return max(
        datetime.fromisoformat(line["at"])
        for log in logs
        for line in map(json.loads, log.read_text().splitlines())
        if line.get("step") == step and line["round"] == number and line["training"] == str(training)
    )


def report(deployment: Deployment, fleet: Fleet) -> list[str]:
    lines = []
    for clients in (3, 10):
        gaps = overhead_s(deployment, fleet, clients)
        lines.append(
            f"round_overhead_s clients={clients} rounds={ROUNDS} median={median(gaps):.4f} "
            f"min={min(gaps):.4f} max={max(gaps):.4f}"
        )
    return lines
