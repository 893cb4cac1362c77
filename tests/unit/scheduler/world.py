"""A world without processes: clients, workers and a clock that answer a training's orders."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import Any, Literal

from schemas import commands as c
from schemas import keys
from schemas import reports as r
from schemas.commands import AggregatorCommand, ClientCommand
from schemas.ids import ClientId
from schemas.reduction import ReducePlan
from schemas.strategies import SWAG
from schemas.timers import TimerMessage
from schemas.weights import ModelRef, StateRef
from schemas.words import Slot
from services.scheduler.decide import Input
from services.scheduler.saga import Received, Recorded, step
from services.scheduler.state import Training
from tests.builders import NOON, TRAINING, digest_of, received
from tests.unit.scheduler.histories import check_history
from tests.unit.scheduler.invariants import check_log, check_orders
from tests.unit.scheduler.outbox import Outbox

Mood = Literal["well", "ill", "unwilling", "mute"]
_ENOUGH = 1_000  # steps in which a healed training must have ended


@dataclass
class World:
    """One training and all that talks to it.  Every step is checked as it is taken."""

    training: Training | None = None
    log: list[Recorded] = field(default_factory=list)
    outbox: Outbox = field(default_factory=Outbox)
    asked: list[ClientCommand | AggregatorCommand] = field(default_factory=list)  # ever, oldest first
    timers: list[TimerMessage] = field(default_factory=list)  # ever set
    said: list[Input] = field(default_factory=list)  # everything that was ever delivered
    now: datetime = NOON
    _numbers: "count[int]" = field(default_factory=count)

    def take(self, *messages: Input) -> None:
        """Deliver messages in one batch; one by one they would lead to the same."""
        batch = tuple(received(message, next(self._numbers)) for message in messages)
        taken = step(self.training, batch, self.now)
        if len(batch) > 1:
            self._check_one_by_one(batch, taken.training)
        self.training = taken.training
        self.said += messages
        self.log += taken.events
        self.outbox.apply(taken.orders)
        self._remember()
        if self.training is not None:
            check_orders(self.training, self.outbox)

    def answer(self, command: ClientCommand | AggregatorCommand, mood: Mood = "well") -> Input:
        return answer(command, mood, self.outbox.objects)

    def check(self) -> None:
        if self.training is not None:
            check_log(self.training, self.log)
            plans = [ReducePlan.model_validate_json(body) for body in self.outbox.objects.values()]
            check_history([recorded.event for recorded in self.log], plans, self.asked)

    def heal(self, *, clients_answer: bool = True) -> None:
        """Faults stop: all that was said is said again, every open command is answered, time passes."""
        self.take(*self.said)
        for _ in range(_ENOUGH):
            if self.training is None or self.training.is_over:
                return
            commands = [order.command for order in self.outbox.open.values()]
            answers = [self.answer(x) for x in commands if clients_answer or not _is_for_a_client(x)]
            if not answers:
                assert self.outbox.timer is not None, "nobody is asked and no moment is awaited: it hangs"
                self.now = max(self.now, self.outbox.timer.due_at)
                answers = [self.outbox.timer.message]
            self.take(*answers)
        raise AssertionError("the training does not end")

    def _check_one_by_one(self, batch: tuple[Received, ...], together: Training | None) -> None:
        training = self.training
        for each in batch:
            training = step(training, (each,), self.now).training
        assert training == together

    def _remember(self) -> None:
        known = {id(command) for command in self.asked}
        self.asked += [o.command for o in self.outbox.open.values() if id(o.command) not in known]
        timer = self.outbox.timer
        if timer is not None and timer.message not in self.timers:
            self.timers.append(timer.message)
        self.now += timedelta(seconds=1)


def _is_for_a_client(command: ClientCommand | AggregatorCommand) -> bool:
    return isinstance(command, c.TrainRound | c.EvaluateModel)


def answer(  # noqa: C901, PLR0911 -- one case a command
    command: ClientCommand | AggregatorCommand, mood: Mood, objects: Mapping[str, bytes]
) -> Input:
    """What a client or a worker reports when it has carried out a command."""
    match command:
        case c.TrainRound() | c.EvaluateModel() if mood == "ill":
            return r.TaskFailed(**_task(command), reason="exit code 1")
        case c.TrainRound() | c.EvaluateModel() if mood == "unwilling":
            return r.ClientRejected(training_id=TRAINING, client_id=command.client_id, reason="not today")
        case c.TrainRound():
            said = {} if mood == "mute" else {"loss": 0.25}
            file = digest_of(command.task_id)
            return r.ModelUploaded(**_task(command), sha256=file, num_examples=3, metrics=said)
        case c.EvaluateModel():
            said = {} if mood == "mute" else {"loss": _quality(command.model)}
            return r.MetricsReported(**_task(command), num_examples=3, metrics=said)
        case c.InspectUpdate() if mood in {"ill", "unwilling"}:
            return r.UpdateRejected(**_task(command), code="not_finite", reason="fc.weight holds NaN")
        case c.InspectUpdate():
            return _inspected(command)
        case c.MeasureShard() | c.ChooseUpdates() | c.ReduceShard() | c.PublishModel() if mood == "ill":
            return r.RoundRefused(**_close(command), code="result_out_of_range", reason="inf")
        case c.MeasureShard():
            digest = digest_of("measured", command.epoch, command.shard)
            return r.ShardMeasured(**_close(command), shard=command.shard, digest=digest)
        case c.ChooseUpdates():
            return r.UpdatesChosen(**_close(command), clients=_choice(plan_of(command, objects)))
        case c.ReduceShard():
            digests = tuple(
                digest_of(command.epoch, command.shard, part) for part in _parts(command, objects)
            )
            return r.ShardReduced(**_close(command), shard=command.shard, digests=digests)
        case c.PublishModel():
            return _published(command, objects)
        case _:
            raise AssertionError(f"nobody answers {command.type}")


Reduction = c.MeasureShard | c.ChooseUpdates | c.ReduceShard | c.PublishModel


def plan_of(command: Reduction, objects: Mapping[str, bytes]) -> ReducePlan:
    """As a worker reads it: the object must be there, and be the one that is meant."""
    body = objects[command.plan]
    assert hashlib.sha256(body).hexdigest() == command.plan_sha256
    return ReducePlan.model_validate_json(body)


def _quality(model: ModelRef) -> float:
    """Some versions are better, some worse, some as good as the one before."""
    return (0.5, 0.75, 0.5, 0.5, 1.0)[model.version % 5]


def _inspected(command: c.InspectUpdate) -> r.UpdateAccepted:
    return r.UpdateAccepted(
        **_task(command),
        sha256=command.sha256,
        etag=f"etag-{command.task_id}",
        norm=1.0,
        digests=(),
        distance=0.5 if command.measures else None,
        tensors=(0,) if command.partial else None,
    )


def _choice(plan: ReducePlan) -> tuple[ClientId, ...]:
    """Most of them; which ones does not matter here."""
    clients = tuple(update.client_id for update in plan.updates)
    return clients[: max(1, len(clients) - plan.epoch % 2)]


def _parts(command: Reduction, objects: Mapping[str, bytes]) -> tuple[str, ...]:
    """SWAG's moments are there if the updates bring them."""
    plan = plan_of(command, objects)
    assert plan.is_chosen == plan.strategy.chooses
    is_without = isinstance(plan.strategy, SWAG) and plan.extra is None
    return ("model", *(() if is_without else plan.strategy.slots))


def _published(command: c.PublishModel, objects: Mapping[str, bytes]) -> r.ModelPublished:
    version, (_, *slots) = command.model.version + 1, _parts(command, objects)
    assert not command.shards or all(len(parts) == 1 + len(slots) for parts in command.shards)
    model = {"version": version, "sha256": digest_of(version), "key": f"models/{version}-{command.epoch}"}
    left = tuple(
        StateRef(
            slot=Slot(slot),
            key=keys.state(TRAINING, version, command.epoch, Slot(slot)),
            sha256=digest_of(slot, version),
            size=command.model.size,
        )
        for slot in slots
    )
    return r.ModelPublished(**_close(command), model=command.model.model_copy(update=model), state=left)


def _close(command: Reduction) -> dict[str, Any]:  # fields of any report
    return command.model_dump(include={"training_id", "round", "epoch"})


def _task(
    command: c.TrainRound | c.EvaluateModel | c.InspectUpdate,
) -> dict[str, Any]:  # fields of any report
    return command.model_dump(include={"training_id", "task_id", "client_id", "round"})
