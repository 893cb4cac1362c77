"""A world without processes: clients, workers and a clock that answer a training's orders."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import Any, Literal

from schemas import commands as c
from schemas import reports as r
from schemas.commands import AggregatorCommand, ClientCommand
from schemas.timers import TimerMessage
from services.scheduler.decide import Input
from services.scheduler.saga import Received, Recorded, step
from services.scheduler.state import Training
from tests.builders import NOON, TRAINING, digest_of, received
from tests.unit.scheduler.invariants import check_log, check_orders
from tests.unit.scheduler.outbox import Outbox

Mood = Literal["well", "ill", "unwilling"]
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

    def check(self) -> None:
        if self.training is not None:
            check_log(self.training, self.log)

    def heal(self, *, clients_answer: bool = True) -> None:
        """Faults stop: all that was said is said again, every open command is answered, time passes."""
        self.take(*self.said)
        for _ in range(_ENOUGH):
            if self.training is None or self.training.is_over:
                return
            commands = [order.command for order in self.outbox.open.values()]
            answers = [answer(each) for each in commands if clients_answer or not _is_for_a_client(each)]
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


def answer(command: ClientCommand | AggregatorCommand, mood: Mood = "well") -> Input:  # noqa: C901, PLR0911 -- one case a command
    """What a client or a worker reports when it has carried out a command."""
    match command:
        case c.TrainRound() | c.EvaluateModel() if mood == "ill":
            return r.TaskFailed(**_task(command), reason="exit code 1")
        case c.TrainRound() | c.EvaluateModel() if mood == "unwilling":
            return r.ClientRejected(training_id=TRAINING, client_id=command.client_id, reason="not today")
        case c.TrainRound():
            return r.ModelUploaded(**_task(command), sha256=digest_of(command.task_id), num_examples=3)
        case c.EvaluateModel():
            return r.MetricsReported(**_task(command), num_examples=3, metrics={"loss": 0.5})
        case c.InspectUpdate() if mood != "well":
            return r.UpdateRejected(**_task(command), code="not_finite", reason="fc.weight holds NaN")
        case c.InspectUpdate():
            return r.UpdateAccepted(
                **_task(command), sha256=command.sha256, etag=f"etag-{command.task_id}", norm=1.0, digests=()
            )
        case c.ReduceShard():
            return r.ShardReduced(
                training_id=TRAINING,
                round=command.round,
                epoch=command.epoch,
                shard=command.shard,
                digests=(digest_of(command.epoch, command.shard),),
            )
        case c.PublishModel():
            version = command.model.version + 1
            model = command.model.model_copy(update={"version": version, "sha256": digest_of(version)})
            return r.ModelPublished(
                training_id=TRAINING, round=command.round, epoch=command.epoch, model=model
            )
        case _:
            raise AssertionError(f"nobody answers {command.type}")


def _task(
    command: c.TrainRound | c.EvaluateModel | c.InspectUpdate,
) -> dict[str, Any]:  # fields of any report
    return command.model_dump(include={"training_id", "task_id", "client_id", "round"})
