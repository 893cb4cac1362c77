"""Rules that hold whatever happens: I1-I5, I8-I10, I12 of the design, over the log and the model outbox."""

from collections.abc import Sequence
from itertools import pairwise

from schemas import commands as c
from schemas import events as e
from schemas import reports as r
from schemas import timers as t
from schemas.events import Event
from schemas.strategies import SWAG
from schemas.words import Phase, Slot
from services.scheduler.evolve import fold
from services.scheduler.orders import Send
from services.scheduler.saga import Recorded
from services.scheduler.state import TaskState, Training, from_snapshot, to_snapshot
from tests.unit.scheduler.outbox import Outbox

Awaited = set[tuple[object, ...]]
_ENDS = (e.TrainingCompleted, e.TrainingFailed, e.TrainingAborted)
_ROUND_ENDS = (e.RoundAggregated, e.RoundChained, e.RoundAbandoned)


def check_orders(training: Training, outbox: Outbox) -> None:
    """I10, I12: what is asked is exactly what is awaited, and the timer is the one of the phase."""
    assert {_asked(order) for order in outbox.open.values()} == _awaited(training)
    assert (outbox.timer and outbox.timer.message) == _timer(training)


def check_log(training: Training, log: Sequence[Recorded]) -> None:
    """What the log alone can show, and that it folds to the state."""
    events = [recorded.event for recorded in log]
    assert [recorded.seq for recorded in log] == list(range(1, len(log) + 1)), "I1"
    folded = fold(None, events)
    assert folded == training, "I2"
    assert from_snapshot(to_snapshot(training)) == training, "I2"
    assert to_snapshot(from_snapshot(to_snapshot(training))) == to_snapshot(training), "I2"
    assert sum(isinstance(event, _ENDS) for event in events) == int(training.is_over), "I3"
    assert not training.is_over or isinstance(events[-1], _ENDS), "I3"
    _check_rounds(training, events)
    _check_epochs(events)


def slots_written(training: Training, round_: int) -> tuple[Slot, ...]:
    strategy, rounds = training.plan.strategy, training.plan.rounds
    is_early = isinstance(strategy, SWAG) and round_ < rounds - strategy.rounds
    return () if is_early else strategy.slots


def _check_rounds(training: Training, events: Sequence[Event]) -> None:
    starts = [n for n, event in enumerate(events) if isinstance(event, e.RoundStarted)]
    for start, end in pairwise([*starts, len(events)]):
        _check_round(training, events[start:end])
    for before, after in pairwise(event for event in events if isinstance(event, e.RoundStarted)):
        follows = {(before.round, before.attempt + 1), (before.round + 1, 1)}
        assert (after.round, after.attempt) in follows, "I3"


def _check_round(training: Training, events: Sequence[Event]) -> None:
    """One attempt of a round, and its evaluation."""
    ends = [event for event in events if isinstance(event, _ROUND_ENDS)]
    is_last = not any(isinstance(event, _ENDS) for event in events) and not training.is_over
    assert len(ends) <= 1, "I3"
    assert ends or is_last or isinstance(events[-1], e.TrainingAborted), "I3"
    _check_updates(events)
    for n, event in enumerate(events):
        if isinstance(event, e.RoundClosed | e.RoundChained):
            _check_close(training, event, events[:n])
            _check_choosing(training, event, events[n + 1 :])
        if isinstance(event, e.RoundAggregated):
            assert tuple(part.slot for part in event.state) == slots_written(training, event.round)


def _check_updates(events: Sequence[Event]) -> None:
    closes = (e.RoundClosed, e.RoundChained)
    closed = next((n for n, event in enumerate(events) if isinstance(event, closes)), len(events))
    accepted = [event.client_id for event in events if isinstance(event, r.UpdateAccepted)]
    assert len(accepted) == len(set(accepted)), "I4"
    assert not any(isinstance(event, r.UpdateAccepted | r.ModelUploaded) for event in events[closed:]), "I4"
    uploads = [event.task_id for event in events if isinstance(event, r.ModelUploaded)]
    verdicts = [event.task_id for event in events if isinstance(event, r.UpdateAccepted | r.UpdateRejected)]
    assert len(uploads) == len(set(uploads)), "I5"
    assert len(verdicts) == len(set(verdicts)), "I5"
    assert set(verdicts) <= set(uploads), "I5"
    if any(isinstance(event, (*closes, e.RoundAbandoned)) for event in events):
        assert set(verdicts) == set(uploads), "I5"


def _check_close(training: Training, closed: e.RoundClosed | e.RoundChained, before: Sequence[Event]) -> None:
    accepted = {event.task_id for event in before if isinstance(event, r.UpdateAccepted)}
    gone = {event.task_id for event in before if isinstance(event, r.UpdateLost)}
    assert set(closed.accepted) == accepted - gone, "I8"
    assert len(closed.accepted) >= training.plan.quorum, "I8"
    aggregates = training.plan.strategy.aggregates(closed.round)
    assert isinstance(closed, e.RoundClosed) == aggregates


def _check_choosing(
    training: Training, closed: e.RoundClosed | e.RoundChained, after: Sequence[Event]
) -> None:
    """Between a close and the next one: measured before chosen, chosen before reduced, each once."""
    again = (n for n, event in enumerate(after) if isinstance(event, e.RoundClosed | e.RoundStarted))
    own = after[: next(again, len(after))]
    worked = [x for x in own if isinstance(x, r.ShardMeasured | r.UpdatesChosen | r.ShardReduced)]
    kinds = (r.ShardMeasured, r.UpdatesChosen, r.ShardReduced)
    assert [kinds.index(type(x)) for x in worked] == sorted(kinds.index(type(x)) for x in worked)
    chosen = [x for x in worked if isinstance(x, r.UpdatesChosen)]
    if training.plan.strategy.chooses:
        is_reduced = any(isinstance(x, r.ShardReduced | e.RoundAggregated) for x in own)
        assert len(chosen) == 1 or (not chosen and not is_reduced)
    else:
        assert all(isinstance(x, r.ShardReduced) for x in worked)
    for kind in (r.ShardMeasured, r.ShardReduced):
        shards = [x.shard for x in worked if isinstance(x, kind)]
        assert len(shards) == len(set(shards))


def _check_epochs(events: Sequence[Event]) -> None:
    epoch = 0
    for event in events:
        match event:
            case e.RoundClosed():
                assert event.epoch == epoch + 1, "I9"
                epoch = event.epoch
            case (
                e.RoundAggregated()
                | r.RoundRefused()
                | r.ShardMeasured()
                | r.UpdatesChosen()
                | r.ShardReduced()
                | r.UpdateLost()
            ):
                assert event.epoch == epoch, "I9"


def _asked(order: Send) -> tuple[object, ...]:
    command = order.command
    match command:
        case c.MeasureShard() | c.ReduceShard():
            return command.type, command.epoch, command.shard
        case c.ChooseUpdates() | c.PublishModel():
            return command.type, command.epoch
        case c.TrainRound() | c.EvaluateModel() | c.InspectUpdate():
            return command.type, command.task_id
        case _:
            raise AssertionError(f"{command.type} is not answered")


def _awaited(training: Training) -> Awaited:
    current = training.round
    if training.is_over or current is None:
        return set()
    if current.phase is Phase.AGGREGATING:
        return _awaited_of_workers(training)
    asked = "EvaluateModel" if current.phase is Phase.EVALUATING else "TrainRound"
    tasks = {(asked, task.id) for task in current.in_state(TaskState.OPEN)}
    uploads = {("InspectUpdate", task.id) for task in current.in_state(TaskState.UPLOADED)}
    return {*tasks, *uploads}


def _awaited_of_workers(training: Training) -> Awaited:
    """A single shard is measured by whoever chooses, and reduced by whoever publishes."""
    current = training.round
    assert current is not None
    chooses = training.plan.strategy.chooses and not current.chosen
    kind, whole = ("MeasureShard", "ChooseUpdates") if chooses else ("ReduceShard", "PublishModel")
    digests: Sequence[object] = current.measured if chooses else current.shards
    if len(digests) == 1 or all(digests):
        return {(whole, training.epoch)}
    return {(kind, training.epoch, n) for n, digest in enumerate(digests) if not digest}


def _timer(training: Training) -> t.TimerMessage | None:
    current = training.round
    if training.is_over or current is None:
        return None
    if current.phase is Phase.EVALUATING:
        return t.EvaluationTimedOut(training_id=training.id, round=current.number)
    if current.phase is Phase.TRAINING and current.intake_is_open:
        return t.RoundTimedOut(training_id=training.id, round=current.number, attempt=current.attempt)
    return None
