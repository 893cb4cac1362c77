"""One example of every message, and the golden files that hold them as they go over the wire.

`python -m tests.contract.examples` writes the files that are missing.  It never touches one that is there:
to change a golden file is to change the language, and is done by hand.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from schemas import commands as c
from schemas import events as e
from schemas import reports as r
from schemas import timers as t
from schemas.envelope import Envelope, enclose, encode
from schemas.events import Event
from schemas.ids import MessageId
from schemas.message import Message
from schemas.plan import BestModel
from schemas.routing import members
from schemas.strategies import FedAdam
from schemas.words import Extra, Outcome, Slot, TaskKind, UpdateKind
from tests import builders as b
from tests.builders import ANA, BEN, CLEO, NOON, TRAINING

GOLDEN = Path(__file__).parent / "golden"
DIRECTIONS: Mapping[str, Any] = {
    "to-scheduler": c.SchedulerCommand,
    "to-aggregator": c.AggregatorCommand,
    "to-clients": c.ClientCommand,
    "from-clients": r.ClientReport,
    "from-aggregator": r.AggregatorReport,
    "events": Event,
    "timers": t.TimerMessage,
}
SOON = NOON + timedelta(minutes=1)
PLAN = b.a_plan(
    rounds=3,
    evaluate_every=1,
    min_clients=2,
    fraction=0.5,
    config={"lr": 0.1, "epochs": 2},
    strategy=FedAdam(eta=0.01),
    norm_clip=5.0,
    best=BestModel(metric="auc", patience=2),
)
ACCESS = c.Access(
    download_url="https://store.example/models/0?signature=a",
    upload_url="https://store.example/updates/0?signature=b",
    upload_headers={"if-none-match": "*"},
    state_url="https://store.example/state/0?signature=c",
    expires_at=SOON,
)
TASK: dict[str, Any] = {
    "training_id": TRAINING,
    "task_id": b.a_task(ANA),
    "client_id": ANA,
    "round": 0,
}
ORDER: dict[str, Any] = {**TASK, "model": b.a_model(), "config": PLAN.config, "deadline_at": SOON}
REDUCTION: dict[str, Any] = {
    "training_id": TRAINING,
    "round": 0,
    "epoch": 1,
    "plan": "rounds/plan.json",
    "plan_sha256": b.digest_of("plan"),
}
ROUND: dict[str, Any] = {"training_id": TRAINING, "round": 0}

_ALL: tuple[Message, ...] = (
    b.start(ANA, BEN, plan=PLAN),
    b.abort(),
    b.add(CLEO),
    b.remove(CLEO),
    c.TrainRound(
        **ORDER,
        attempt=1,
        update=UpdateKind.DELTA,
        partial=True,
        extra=Extra.CONTROL,
        state=b.a_state(Slot.CONTROL)[0],
        access=ACCESS,
    ),
    c.EvaluateModel(**ORDER, access=c.Access(download_url=ACCESS.download_url, expires_at=ACCESS.expires_at)),
    c.CancelTask(**TASK, reason="the deadline has passed"),
    c.TrainingEnded(training_id=TRAINING, client_id=ANA, outcome=Outcome.COMPLETED, model=b.a_model(3)),
    c.InspectUpdate(
        **TASK,
        key="updates/0.safetensors",
        sha256=b.digest_of(1),
        model=b.a_model(),
        update=UpdateKind.DELTA,
        partial=True,
        extra=Extra.CONTROL,
        measures=True,
        shard_bytes=8,
    ),
    c.MeasureShard(**REDUCTION, shard=1),
    c.ChooseUpdates(**REDUCTION, shards=(b.digest_of(0), b.digest_of(1))),
    c.ReduceShard(**REDUCTION, shard=1),
    c.PublishModel(
        **REDUCTION,
        model=b.a_model(),
        shards=tuple((b.digest_of(shard), b.digest_of(shard, "v")) for shard in range(2)),
    ),
    b.uploaded(ANA).model_copy(update={"metrics": {"loss": 0.25, "accuracy": 1.0}}),
    b.measured(ANA, metrics={"loss": 1e-300, "auc": 0.75}),
    b.failed(ANA),
    b.refused(ANA),
    r.Heartbeat(client_id=ANA, tasks=(b.a_task(ANA),), leaving=True, version="0.1.0"),
    b.accepted(ANA, distance=0.5, tensors=(0, 2)),
    b.rejected(ANA),
    b.lost(ANA),
    b.measured_shard(1),
    b.chosen(ANA, BEN),
    b.reduced(1, Slot.M, Slot.V),
    b.not_combined(),
    b.published(Slot.M, Slot.V),
    e.TrainingStarted(training_id=TRAINING, plan=PLAN, model=b.a_model(), participants=(ANA, BEN)),
    e.RoundStarted(
        **ROUND,
        attempt=1,
        clients=(ANA, BEN),
        deadline_at=SOON,
        continues=(b.a_task(BEN, round=1), b.a_task(ANA, round=1)),
    ),
    e.TaskReissued(
        **{**TASK, "task_id": b.a_task(ANA, issue=2)}, kind=TaskKind.TRAIN, issue=2, replaces=b.a_task(ANA)
    ),
    e.ParticipantsAdded(training_id=TRAINING, clients=(CLEO,)),
    e.ParticipantRemoved(training_id=TRAINING, client_id=BEN, reason="not with our data"),
    e.IntakeClosed(**ROUND, attempt=1, missing=(BEN,)),
    e.RoundClosed(**ROUND, attempt=1, epoch=1, accepted=(b.a_task(ANA),)),
    e.RoundChained(**ROUND, attempt=1, accepted=(b.a_task(ANA),), metrics={"loss": 0.25}),
    e.RoundAbandoned(**ROUND, attempt=1, reason="1 of at least 2 updates", missing=(BEN,)),
    e.RoundAggregated(
        **ROUND, epoch=1, model=b.a_model(1), state=b.a_state(Slot.M, Slot.V), metrics={"loss": 0.25}
    ),
    e.EvaluationStarted(**ROUND, clients=(ANA, BEN), deadline_at=SOON),
    e.EvaluationEnded(**ROUND, metrics={"loss": 0.5}, num_examples=20, missing=()),
    e.TrainingCompleted(
        training_id=TRAINING, model=b.a_model(3), best=b.a_model(1), reason="no better auc in 2 evaluations"
    ),
    e.TrainingFailed(training_id=TRAINING, reason="too few updates", missing=(BEN,)),
    e.TrainingAborted(training_id=TRAINING, reason="no longer needed"),
    b.round_timed_out(),
    b.evaluation_timed_out(),
)
EXAMPLES: Mapping[str, Message] = {message.type: message for message in _ALL}


def kinds() -> Iterator[tuple[str, str]]:
    """Every direction and type of message."""
    for direction, union in DIRECTIONS.items():
        for kind in members(union):
            yield direction, kind.__name__


def path_of(direction: str, name: str) -> Path:
    return GOLDEN / direction / f"{name}.json"


def missing() -> list[Path]:
    return [path_of(*kind) for kind in kinds() if not path_of(*kind).exists()]


def enclosed(direction: str, name: str) -> Envelope[Message]:
    """The example in its envelope, as its golden file holds it."""
    is_event = direction == "events"
    return enclose(
        EXAMPLES[name],
        id=MessageId(UUID(int=1)),
        source=_SOURCES.get(direction, "scheduler"),
        time=NOON,
        subject=str(TRAINING) if is_event else None,
        sequence=7 if is_event else None,
        causationid=MessageId(UUID(int=2)) if is_event else None,
    )


_SOURCES = {"to-scheduler": "api", "from-clients": str(ANA), "from-aggregator": "aggregator"}


def write_missing() -> None:
    for direction, name in kinds():
        path = path_of(direction, name)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(json.loads(encode(enclosed(direction, name))), indent=2) + "\n")
            sys.stdout.write(f"{path.relative_to(Path.cwd())} written\n")


if __name__ == "__main__":
    write_missing()
