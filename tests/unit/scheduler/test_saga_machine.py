"""The saga under arbitrary orders of messages: repeated, late, lost, foreign and hostile ones."""

from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from schemas import commands as c
from schemas import events as e
from schemas import reports as r
from schemas import timers as t
from schemas.events import Event
from schemas.plan import Plan
from schemas.routing import members
from schemas.weights import ModelRef
from services.scheduler.decide import Input
from services.scheduler.state import TaskState
from tests.builders import (
    ANA,
    BEN,
    CLEO,
    DAN,
    TRAINING,
    a_model,
    a_task,
    abort,
    add,
    lost,
    remove,
    start,
)
from tests.strategies import instances
from tests.unit.scheduler.plans import drawn_plan, selecting
from tests.unit.scheduler.world import Mood, World

EVERYBODY = (ANA, BEN, CLEO, DAN)
MOODS: tuple[Mood, ...] = ("well", "well", "well", "ill", "unwilling", "mute")
HOSTILE: tuple[Any, ...] = (
    r.ModelUploaded,
    r.MetricsReported,
    r.TaskFailed,
    r.ClientRejected,
    r.UpdateAccepted,
    r.UpdateRejected,
    r.UpdateLost,
    r.ShardMeasured,
    r.UpdatesChosen,
    r.ShardReduced,
    r.RoundRefused,
    r.ModelPublished,
    t.RoundTimedOut,
    t.EvaluationTimedOut,
    c.AddParticipants,
    c.RemoveParticipants,
    c.StartTraining,
)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    def pick(some: Sequence[Any]) -> Any:
        return draw(st.sampled_from(some))

    return selecting(drawn_plan(pick), pick)


def hostile_messages() -> st.SearchStrategy[Input]:
    """Any schema-valid message, about things that are likely to exist."""
    near = {
        "training_id": st.just(TRAINING),
        "client_id": st.sampled_from(EVERYBODY),
        "task_id": st.builds(
            a_task, st.sampled_from(EVERYBODY), round=st.integers(0, 2), attempt=st.integers(1, 2)
        ),
        "round": st.integers(0, 2),
        "attempt": st.integers(1, 3),
        "epoch": st.integers(1, 4) | st.just(2**70),
        "shard": st.integers(0, 3),
        "model": instances(ModelRef, version=st.integers(0, 4)),
        "clients": st.lists(st.sampled_from(EVERYBODY), min_size=1, max_size=3).map(tuple),
    }
    return st.one_of(
        *(
            instances(kind, **{name: drawn for name, drawn in near.items() if name in kind.model_fields})
            for kind in HOSTILE
        )
    )


class SagaMachine(RuleBasedStateMachine):
    """Every rule is something that may happen at any moment; `World.take` checks each step."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    @initialize(plan=plans(), clients=st.sets(st.sampled_from(EVERYBODY)), shards=st.integers(1, 3))
    def starts(self, plan: Plan, clients: set[Any], shards: int) -> None:
        self.world.take(start(*clients, plan=plan, model=a_model(size=8 + 8 * shards)))

    @precondition(lambda self: self.world.asked)
    @rule(data=st.data(), moods=st.lists(st.sampled_from(MOODS), min_size=1, max_size=6))
    def commands_are_carried_out_perhaps_again(self, data: st.DataObject, moods: list[Mood]) -> None:
        carried = [data.draw(st.sampled_from(self.world.asked)) for _ in moods]
        self.world.take(*map(self.world.answer, carried, moods))

    @precondition(lambda self: self.world.outbox.open)
    @rule(mood=st.sampled_from(MOODS))
    def everything_open_is_carried_out(self, mood: Mood) -> None:
        commands = [order.command for order in self.world.outbox.open.values()]
        self.world.take(*(self.world.answer(command, mood) for command in commands))

    @rule(data=st.data())
    def something_is_said_again(self, data: st.DataObject) -> None:
        self.world.take(data.draw(st.sampled_from(self.world.said)))

    @precondition(lambda self: self.world.timers)
    @rule(data=st.data())
    def a_timer_is_due_perhaps_a_stale_one(self, data: st.DataObject) -> None:
        self.world.take(data.draw(st.sampled_from(self.world.timers)))

    @rule(messages=st.lists(hostile_messages(), min_size=1, max_size=3))
    def somebody_is_hostile(self, messages: list[Input]) -> None:
        self.world.take(*messages)

    @rule(clients=st.sets(st.sampled_from(EVERYBODY)))
    def the_operator_adds_participants(self, clients: set[Any]) -> None:
        self.world.take(add(*clients))

    @rule(client=st.sampled_from(EVERYBODY))
    def the_operator_removes_a_participant(self, client: Any) -> None:
        self.world.take(remove(client))

    @precondition(lambda self: self.world.training and self.world.training.seq > 20)
    @rule()
    def the_operator_aborts(self) -> None:
        self.world.take(abort())

    @invariant()
    def the_log_keeps_the_rules(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        self.world.heal()
        self.world.check()


TestSagaMachine = SagaMachine.TestCase
TestSagaMachine.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)


def simulated(seed: int) -> World:
    """One training under faults that `seed` decides; much faster than hypothesis, without its shrinking."""
    lot, world = Random(seed), World()
    plan = selecting(drawn_plan(lot.choice), lot.choice)
    model = a_model(size=8 + 8 * lot.randint(1, 3))
    clients = lot.sample(EVERYBODY, lot.choice((1, 2, 3, 4, 4, 4, 4)))
    world.take(start(*clients, plan=plan, model=model))
    patience, illness = lot.randint(5, 100), lot.random() ** 3 / 2
    for _ in range(patience):
        world.take(*(_happening(world, lot, illness) for _ in range(lot.choice((1, 1, 3)))))
    return world


def _happening(world: World, lot: Random, illness: float) -> Input:
    fate, commands = lot.random(), [order.command for order in world.outbox.open.values()]
    if fate < 0.55 and commands:
        return world.answer(lot.choice(commands), _mood(lot, illness))
    if fate < 0.65 and world.asked:
        return world.answer(lot.choice(world.asked), _mood(lot, illness))
    if fate < 0.67 and world.timers:
        return lot.choice(world.timers)
    if fate < 0.7:
        return _lost(world, lot)
    if fate < 0.71:
        return lot.choice((add(*EVERYBODY), remove(lot.choice(EVERYBODY)), abort()))
    return lot.choice(world.said)


def _mood(lot: Random, illness: float) -> Mood:
    return lot.choice(("ill", "ill", "mute", "unwilling")) if lot.random() < illness else "well"


def _lost(world: World, lot: Random) -> Input:
    if world.training is None or world.training.round is None:
        return abort()
    tasks = world.training.round.in_state(TaskState.ACCEPTED)
    if not tasks:
        return lost(ANA)
    task, round_ = lot.choice(tasks), world.training.round.number
    gone = lost(task.client_id, round=round_, epoch=max(1, world.training.epoch))
    return gone.model_copy(update={"task_id": task.id})


def test_the_simulation_meets_everything_that_can_happen() -> None:
    events = [recorded.event for seed in range(400) for recorded in simulated(seed).log]
    assert {event.type for event in events} == {kind.__name__ for kind in members(Event)}
    begun = [event for event in events if isinstance(event, e.RoundStarted) and len(event.continues) > 1]
    assert {event.attempt > 1 for event in begun} == {True, False}, "chains go on, some at another attempt"
    completed = [event for event in events if isinstance(event, e.TrainingCompleted)]
    assert {(event.best is None, event.reason is None) for event in completed} >= {
        (False, False),
        (False, True),
        (True, True),
    }
    codes = {event.code for event in events if isinstance(event, r.UpdateRejected)}
    assert codes == {"not_finite", "no_loss"}


@pytest.mark.parametrize("clients_answer", [True, False])
@pytest.mark.parametrize("block", range(8))
def test_whatever_happens_the_rules_hold_and_the_training_ends_once_faults_stop(
    block: int, clients_answer: bool
) -> None:
    for seed in range(block * 50, block * 50 + 50):
        world = simulated(seed)
        world.check()
        world.heal(clients_answer=clients_answer)
        world.check()
