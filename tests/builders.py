"""Builds the words of the domain: each takes what a test is about, and defaults the rest."""
# ruff: noqa: A002 -- a round is called round here too

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from schemas import commands as c
from schemas import reports as r
from schemas import timers as t
from schemas.events import Event
from schemas.identity import derived, task_id
from schemas.ids import ClientId, MessageId, ModelId, TaskId, TrainingId
from schemas.keys import model_version, state
from schemas.message import Words
from schemas.plan import Evaluation, Participation, Plan
from schemas.weights import ModelRef, State, StateRef
from schemas.words import Slot, TaskKind
from services.scheduler.decide import Input
from services.scheduler.saga import Received, Step, step
from services.scheduler.state import Training

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
TRAINING = TrainingId(UUID(int=0x7EA1))
MODEL = ModelId(UUID(int=0x30DE1))
ANA, BEN, CLEO, DAN = (ClientId(UUID(int=number)) for number in range(1, 5))
SHARDS = 2  # of `a_model` under `a_plan`


def digest_of(*parts: object) -> str:
    """64 hexadecimal digits that follow from `parts`."""
    return (derived(*parts).hex + derived(*parts, "more").hex)[:64]


def a_model(version: int = 0, *, size: int = 8 + 16, header_size: int = 8) -> ModelRef:
    return ModelRef(
        model_id=MODEL,
        version=version,
        key=model_version(TRAINING, version, 1),
        sha256=digest_of("model", version),
        size=size,
        header_size=header_size,
    )


def a_state(*slots: Slot, version: int = 1) -> State:
    return tuple(
        StateRef(
            slot=slot,
            key=state(TRAINING, version, version, slot),
            sha256=digest_of("state", version, slot),
            size=8 + 16,
        )
        for slot in slots
    )


def a_plan(
    *,
    rounds: int = 1,
    evaluate_every: int = 0,
    min_clients: int = 1,
    fraction: float = 1.0,
    round_attempts: int = 2,
    task_attempts: int = 2,
    **more: Any,  # of Plan
) -> Plan:
    policy = Participation(
        min_clients=min_clients,
        fraction=fraction,
        round_attempts=round_attempts,
        task_attempts=task_attempts,
        round_deadline_s=60.0,
    )
    evaluation = Evaluation(every=evaluate_every, deadline_s=30.0)
    return Plan(rounds=rounds, participation=policy, evaluation=evaluation, **{"shard_bytes": 8, **more})


def start(*clients: ClientId, plan: Plan | None = None, model: ModelRef | None = None) -> c.StartTraining:
    return c.StartTraining(
        training_id=TRAINING, plan=plan or a_plan(), model=model or a_model(), participants=clients
    )


def a_training(*clients: ClientId, **plan: Any) -> Training:
    """A training whose first round has just started."""
    return play(None, start(*clients, plan=a_plan(**plan)))[-1]


def play(training: Training | None, *messages: Input, now: datetime = NOON) -> "tuple[Training, ...]":
    """The states after each of the messages, taken one by one."""
    return tuple(after.training for after in steps(training, *messages, now=now) if after.training)


def steps(training: Training | None, *messages: Input, now: datetime = NOON) -> tuple[Step, ...]:
    """What each of the messages leads to, taken one by one."""
    found = []
    for number, message in enumerate(messages):
        found.append(step(training, (received(message, number),), now))
        training = found[-1].training
    return tuple(found)


def received(message: Input, number: int = 0) -> Received:
    return Received(MessageId(derived(message.model_dump_json(), number)), message)


def events_of(*taken: Step) -> tuple[Event, ...]:
    return tuple(recorded.event for each in taken for recorded in each.events)


def types(messages: "tuple[Words, ...]") -> list[str]:
    return [type(message).__name__ for message in messages]


# What clients report.  `attempt` is the round's, `issue` counts how often the client was asked.


def a_task(
    client: ClientId,
    *,
    round: int = 0,
    attempt: int = 1,
    issue: int = 1,
    kind: TaskKind = TaskKind.TRAIN,
) -> TaskId:
    return task_id(TRAINING, kind, round, attempt, client, issue)


def _about(client: ClientId, round: int, **task: Any) -> dict[str, Any]:
    return {
        "training_id": TRAINING,
        "task_id": a_task(client, round=round, **task),
        "client_id": client,
        "round": round,
    }


def uploaded(
    client: ClientId,
    *,
    round: int = 0,
    num_examples: int = 10,
    metrics: dict[str, float] | None = None,
    **task: Any,
) -> r.ModelUploaded:
    return r.ModelUploaded(
        **_about(client, round, **task),
        sha256=digest_of("update", client),
        num_examples=num_examples,
        metrics=metrics or {},
    )


def failed(client: ClientId, *, round: int = 0, **task: Any) -> r.TaskFailed:
    return r.TaskFailed(**_about(client, round, **task), reason="exit code 1")


def measured(
    client: ClientId,
    *,
    round: int = 0,
    num_examples: int = 10,
    metrics: dict[str, float] | None = None,
) -> r.MetricsReported:
    about = _about(client, round, kind=TaskKind.EVALUATE)
    return r.MetricsReported(**about, num_examples=num_examples, metrics=metrics or {"loss": 1.0})


def refused(client: ClientId) -> r.ClientRejected:
    return r.ClientRejected(training_id=TRAINING, client_id=client, reason="not with our data")


# What aggregator workers report.


def accepted(
    client: ClientId,
    *,
    round: int = 0,
    distance: float | None = None,
    tensors: tuple[int, ...] | None = None,
    **task: Any,
) -> r.UpdateAccepted:
    return r.UpdateAccepted(
        **_about(client, round, **task),
        sha256=digest_of("update", client),
        etag=f"etag-{client}",
        norm=1.0,
        digests=(digest_of(client, 0), digest_of(client, 1)),
        distance=distance,
        tensors=tensors,
    )


def rejected(client: ClientId, *, round: int = 0, **task: Any) -> r.UpdateRejected:
    return r.UpdateRejected(**_about(client, round, **task), code="not_finite", reason="fc.weight holds NaN")


def lost(client: ClientId, *, round: int = 0, epoch: int = 1, **task: Any) -> r.UpdateLost:
    return r.UpdateLost(**_about(client, round, **task), epoch=epoch, reason="the object is gone")


def reduced(shard: int, *parts: Slot, round: int = 0, epoch: int = 1) -> r.ShardReduced:
    digests = (digest_of("shard", shard), *(digest_of("shard", shard, part) for part in parts))
    return r.ShardReduced(training_id=TRAINING, round=round, epoch=epoch, shard=shard, digests=digests)


def measured_shard(shard: int, *, round: int = 0, epoch: int = 1) -> r.ShardMeasured:
    return r.ShardMeasured(
        training_id=TRAINING, round=round, epoch=epoch, shard=shard, digest=digest_of("measured", shard)
    )


def chosen(*clients: ClientId, round: int = 0, epoch: int = 1) -> r.UpdatesChosen:
    return r.UpdatesChosen(training_id=TRAINING, round=round, epoch=epoch, clients=tuple(sorted(clients)))


def not_combined(
    *, round: int = 0, epoch: int = 1, reason: str = "a result is out of range"
) -> r.RoundRefused:
    code = "result_out_of_range"
    return r.RoundRefused(training_id=TRAINING, round=round, epoch=epoch, code=code, reason=reason)


def published(
    *slots: Slot, round: int = 0, epoch: int = 1, size: int = 8 + 16, version: int | None = None
) -> r.ModelPublished:
    made = version or round + 1
    model, left = a_model(made, size=size), a_state(*slots, version=made)
    return r.ModelPublished(training_id=TRAINING, round=round, epoch=epoch, model=model, state=left)


# What operators and clocks say.


def abort() -> c.AbortTraining:
    return c.AbortTraining(training_id=TRAINING, reason="no longer needed")


def add(*clients: ClientId) -> c.AddParticipants:
    return c.AddParticipants(training_id=TRAINING, clients=clients)


def remove(*clients: ClientId) -> c.RemoveParticipants:
    return c.RemoveParticipants(training_id=TRAINING, clients=clients, reason="asked to leave")


def round_timed_out(*, round: int = 0, attempt: int = 1) -> t.RoundTimedOut:
    return t.RoundTimedOut(training_id=TRAINING, round=round, attempt=attempt)


def evaluation_timed_out(*, round: int = 0) -> t.EvaluationTimedOut:
    return t.EvaluationTimedOut(training_id=TRAINING, round=round)


# Stretches of a training.


def taken_in(
    *clients: ClientId,
    metrics: dict[str, float] | None = None,
    num_examples: int = 10,
    distance: float | None = None,
    tensors: tuple[int, ...] | None = None,
    **task: Any,
) -> tuple[Input, ...]:
    """Every client uploads, and its update is accepted."""
    return tuple(
        each
        for client in clients
        for each in (
            uploaded(client, metrics=metrics, num_examples=num_examples, **task),
            accepted(client, distance=distance, tensors=tensors, **task),
        )
    )


def choice(*clients: ClientId, round: int = 0, epoch: int = 1) -> tuple[Input, ...]:
    """All shards are measured, and the updates of these clients are chosen."""
    shards = tuple(measured_shard(shard, round=round, epoch=epoch) for shard in range(SHARDS))
    return *shards, chosen(*clients, round=round, epoch=epoch)


def aggregation(
    *slots: Slot, round: int = 0, epoch: int = 1, version: int | None = None
) -> tuple[Input, ...]:
    shards = tuple(reduced(shard, *slots, round=round, epoch=epoch) for shard in range(SHARDS))
    return *shards, published(*slots, round=round, epoch=epoch, version=version)


def a_round(*clients: ClientId, round: int = 0, slots: tuple[Slot, ...] = ()) -> tuple[Input, ...]:
    """Everything that is reported in a round without faults, the first of its number."""
    return *taken_in(*clients, round=round), *aggregation(*slots, round=round, epoch=round + 1)
