"""Rules about a training's whole log: daisy chains, state that goes with a version, the best version."""

from collections.abc import Iterator, Mapping, Sequence

from schemas import commands as c
from schemas import events as e
from schemas import keys
from schemas import reports as r
from schemas.events import Event
from schemas.ids import TaskId
from schemas.plan import BestModel, Plan
from schemas.reduction import ReducePlan
from schemas.weights import ModelRef, State
from schemas.words import Mode


def check_history(events: Sequence[Event], plans: Sequence[ReducePlan], asked: Sequence[object]) -> None:
    """`plans` are those that were stored, `asked` the commands that were sent, of the whole training."""
    started = events[0]
    assert isinstance(started, e.TrainingStarted)
    _check_chains(events)
    _check_versions(started, events, plans)
    _check_what_clients_get(started, events, [each for each in asked if isinstance(each, c.TrainRound)])
    if started.plan.best is not None:
        _check_best(started.plan, started.plan.best, events)


def _check_chains(events: Sequence[Event]) -> None:
    """Who goes on takes an update of the round before: no two the same, nobody its own if there are more."""
    owner = {event.task_id: event.client_id for event in events if isinstance(event, r.ModelUploaded)}
    chain: tuple[TaskId, ...] = ()
    for event in events:
        match event:
            case e.RoundChained():
                chain = event.accepted
            case e.RoundAggregated():
                chain = ()
            case e.RoundStarted():
                assert bool(event.continues) == bool(chain)
                if chain:
                    _check_link(event, chain, owner)


def _check_link(started: e.RoundStarted, chain: Sequence[TaskId], owner: Mapping[TaskId, object]) -> None:
    assert len(started.continues) == len(set(started.continues)) == len(started.clients)
    assert set(started.continues) <= set(chain)
    assert set(started.clients) <= {owner[task] for task in chain}
    if len(chain) > 1:
        pairs = zip(started.clients, started.continues, strict=True)
        assert all(owner[task] != client for client, task in pairs)


def _check_versions(started: e.TrainingStarted, events: Sequence[Event], plans: Sequence[ReducePlan]) -> None:
    """A reduce plan has the newest version and exactly the state that was committed with it."""
    current: tuple[ModelRef, State] = (started.model, ())
    at_epoch: dict[int, tuple[ModelRef, State]] = {}
    chosen: dict[int, tuple[object, ...]] = {}
    accepted: dict[int, tuple[TaskId, ...]] = {}
    for event in events:
        match event:
            case e.RoundClosed():
                at_epoch[event.epoch], accepted[event.epoch] = current, event.accepted
            case r.UpdatesChosen():
                chosen[event.epoch] = event.clients
            case e.RoundAggregated():
                current = (event.model, event.state)
    assert {plan.epoch for plan in plans if not plan.is_chosen} == set(accepted)
    assert {plan.epoch for plan in plans if plan.is_chosen} == set(chosen)
    for plan in plans:
        assert (plan.current, plan.state) == at_epoch[plan.epoch]
        assert {update.task_id for update in plan.updates} <= set(accepted[plan.epoch])
        if plan.is_chosen:
            assert tuple(update.client_id for update in plan.updates) == chosen[plan.epoch]
        else:
            assert tuple(update.task_id for update in plan.updates) == accepted[plan.epoch]


def _check_what_clients_get(
    started: e.TrainingStarted, events: Sequence[Event], asked: Sequence[c.TrainRound]
) -> None:
    """The version that is current at its round, or in a chain the update that the round's start names."""
    files = {
        event.task_id: (keys.update(event.training_id, event.round, event.task_id), event.sha256)
        for event in events
        if isinstance(event, r.ModelUploaded)
    }
    wanted = dict(_files_of_rounds(started, events, files))
    for command in asked:
        found = (command.model.key, command.model.sha256)
        assert found == wanted[command.round, command.attempt, command.client_id]


def _files_of_rounds(
    started: e.TrainingStarted, events: Sequence[Event], files: Mapping[TaskId, tuple[str, str]]
) -> Iterator[tuple[tuple[object, ...], tuple[str, str]]]:
    model = started.model
    for event in events:
        if isinstance(event, e.RoundAggregated):
            model = event.model
        if isinstance(event, e.RoundStarted):
            for n, client in enumerate(event.clients):
                file = files[event.continues[n]] if event.continues else (model.key, model.sha256)
                yield (event.round, event.attempt, client), file


def _check_best(plan: Plan, by: BestModel, events: Sequence[Event]) -> None:
    """Recomputed from the log: which version is the best, and whether patience was to end the training."""
    model = best = value = None
    since = 0
    for event in events:
        match event:
            case e.RoundAggregated():
                model = event.model
            case e.EvaluationEnded():
                found = event.metrics.get(by.metric)
                sign = 1 if by.mode is Mode.MAX else -1
                if found is not None and (value is None or sign * found > sign * value + by.min_delta):
                    best, value, since = model, found, 0
                else:
                    since += 1
            case e.RoundStarted():
                assert by.patience is None or since < by.patience, "it should have ended"
            case e.TrainingCompleted():
                assert event.best == best
                assert event.model == model
                is_early = event.reason is not None
                rounds = [x.round for x in events if isinstance(x, e.RoundStarted)]
                assert is_early == (rounds[-1] + 1 < plan.rounds)
