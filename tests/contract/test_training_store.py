"""What the scheduler relies on, checked on the twin and on PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.database.engine import connect
from infra.database.tables import events, outbox, timers
from infra.stack.record import Endpoints
from schemas.commands import CancelTask
from schemas.envelope import Envelope, decode
from schemas.events import Event
from schemas.identity import event_id, order_id
from schemas.ids import ClientId, MessageId, TrainingId
from schemas.keys import chosen_plan, reduce_plan
from schemas.plan import BestModel
from schemas.strategies import FedAdam, FedDC, Krum, QFedAvg
from schemas.timers import TimerMessage
from schemas.words import Mode, Slot, TrainingState
from services.scheduler.decide import Input
from services.scheduler.evolve import fold
from services.scheduler.memory import MemoryTrainings
from services.scheduler.orders import ClearTimer, Order, Send, SetTimer, Settle, SettleAll, StoreObject
from services.scheduler.posting import OBJECTS
from services.scheduler.saga import Step, step
from services.scheduler.state import Training, to_snapshot
from services.scheduler.store import By, PostgresTrainings, TrainingStore
from tests import builders as b
from tests.builders import ANA, BEN, CLEO, DAN, TRAINING
from tests.databases import a_database, create, empty, enrol

ALL = (ANA, BEN, CLEO, DAN)
START = b.start(*ALL, plan=b.a_plan(rounds=2))


class Kept(Protocol):
    """The store under test, a second one on the same data, and a look at what is kept."""

    store: TrainingStore
    other: TrainingStore

    async def events(self) -> list[bytes]: ...
    async def outbox(self) -> set[MessageId]: ...
    async def timer(self) -> TimerMessage | None: ...


@dataclass
class InMemory:
    store: MemoryTrainings

    @property
    def other(self) -> MemoryTrainings:
        return self.store

    async def events(self) -> list[bytes]:
        return [post.body for post in self.store.events[TRAINING]]

    async def outbox(self) -> set[MessageId]:
        return set(self.store.outbox)

    async def timer(self) -> TimerMessage | None:
        found = self.store.timers.get(TRAINING)
        return found.message if found else None


@dataclass
class InPostgres:
    engine: AsyncEngine
    store: PostgresTrainings
    other: PostgresTrainings

    async def events(self) -> list[bytes]:
        async with self.engine.connect() as connection:
            return list(await connection.scalars(select(events.c.envelope).order_by(events.c.seq)))

    async def outbox(self) -> set[MessageId]:
        async with self.engine.connect() as connection:
            return set(await connection.scalars(select(outbox.c.id)))

    async def timer(self) -> TimerMessage | None:
        async with self.engine.connect() as connection:
            found = (await connection.scalars(select(timers.c.message))).one_or_none()
        return decode(found, TimerMessage).data if found else None


@pytest.fixture(scope="module")
def database(stack: Endpoints) -> Iterator[str]:
    with a_database(stack) as url:
        yield url


@pytest.fixture
async def postgres(database: str) -> AsyncIterator[InPostgres]:
    engine = connect(database)
    await empty(engine)
    await enrol(engine, [(client, f"client.{client}") for client in ALL])
    await create(engine, START)
    yield InPostgres(engine, PostgresTrainings(engine), PostgresTrainings(engine))
    await engine.dispose()


@pytest.fixture
async def memory() -> InMemory:
    store = MemoryTrainings()
    store.create(TRAINING)
    return InMemory(store)


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.integration)])
def kept(request: pytest.FixtureRequest) -> Kept:
    found: Kept = request.getfixturevalue(request.param)
    return found


def taking(*messages: Input) -> By:
    batch = [b.received(message) for message in messages]
    return lambda training, now: step(training, batch, now)


def ordering(*orders: Order) -> By:
    return lambda training, _: Step(training, orders=orders)


def a_notice(name: str) -> Send:
    cancel = CancelTask(training_id=TRAINING, task_id=b.a_task(ANA), client_id=ANA, round=0, reason=name)
    return Send(order_id(name), cancel, until_answered=False)


def an_order(name: str) -> Send:
    return Send(order_id(name), a_notice(name).command)


def timer_in(seconds: float, message: TimerMessage | None = None) -> By:
    def by(training: Training | None, now: datetime) -> Step:
        due_at = now + timedelta(seconds=seconds)
        return Step(training, orders=(SetTimer(message or b.round_timed_out(), due_at),))

    return by


def decoded(bodies: list[bytes]) -> list[Envelope[Event]]:
    return [decode(body, Event) for body in bodies]


async def test_events_orders_and_timer_of_a_change_are_kept_together(kept: Kept) -> None:
    committed = await kept.store.change(TRAINING, taking(START))
    assert [envelope.type for envelope in decoded(await kept.events())] == ["TrainingStarted", "RoundStarted"]
    assert await kept.outbox() == {post.id for post in committed.posts}
    assert len(committed.posts) == 2 + len(ALL)
    assert await kept.timer() == b.round_timed_out()
    assert await kept.store.get(TRAINING) == committed.step.training


async def test_a_change_that_raises_leaves_nothing_behind(kept: Kept) -> None:
    before = (await kept.store.change(TRAINING, taking(START))).step.training
    seen = await kept.events(), await kept.outbox(), await kept.timer()

    def by(training: Training | None, now: datetime) -> Step:
        step(training, [b.received(b.uploaded(ANA))], now)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await kept.store.change(TRAINING, by)
    assert (await kept.events(), await kept.outbox(), await kept.timer()) == seen
    assert await kept.store.get(TRAINING) == before


async def test_events_are_numbered_densely_from_one_and_bear_the_ids_that_follow(kept: Kept) -> None:
    for message in (START, *b.taken_in(ANA, BEN), b.abort()):
        await kept.store.change(TRAINING, taking(message))
    envelopes = decoded(await kept.events())
    assert [envelope.sequence for envelope in envelopes] == list(range(1, len(envelopes) + 1))
    assert [envelope.id for envelope in envelopes] == [
        event_id(TRAINING, number + 1) for number in range(len(envelopes))
    ]


async def test_an_event_names_the_message_that_caused_it(kept: Kept) -> None:
    await kept.store.change(TRAINING, taking(START))
    assert {each.causationid for each in decoded(await kept.events())} == {b.received(START).id}


async def test_a_training_that_nobody_has_created_changes_nothing(kept: Kept) -> None:
    stranger = TrainingId(ANA)
    committed = await kept.store.change(stranger, taking(START))
    assert (committed.step, committed.posts) == (Step(None), ())
    assert (await kept.events(), await kept.outbox(), await kept.timer()) == ([], set(), None)
    assert await kept.store.get(stranger) is None


async def test_posts_come_in_order_events_before_what_follows_from_them(kept: Kept) -> None:
    plan = StoreObject(order_id("plan"), "rounds/1", b"{}")

    def by(training: Training | None, now: datetime) -> Step:
        started = step(training, [b.received(START)], now)
        return Step(started.training, started.events, (plan, an_order("b"), a_notice("a")))

    committed = await kept.store.change(TRAINING, by)
    assert [post.id for post in committed.posts[2:]] == [plan.id, order_id("b"), order_id("a")]
    assert [post.routing_key for post in committed.posts[:3]] == [
        f"training.{TRAINING}.TrainingStarted",
        f"training.{TRAINING}.RoundStarted",
        "rounds/1",
    ]
    assert committed.posts[2].exchange == OBJECTS
    assert [post.until_answered for post in committed.posts] == [False, False, False, True, False]


async def test_writers_at_the_same_time_lose_nothing(kept: Kept) -> None:
    await kept.store.change(TRAINING, taking(START))
    messages = [b.uploaded(client) for client in ALL]
    await asyncio.gather(
        *(
            store.change(TRAINING, taking(message))
            for store, message in zip((kept.store, kept.other) * 2, messages, strict=True)
        )
    )
    envelopes = decoded(await kept.events())
    assert [envelope.sequence for envelope in envelopes] == [1, 2, 3, 4, 5, 6]
    assert all(message in [envelope.data for envelope in envelopes[2:]] for message in messages)


async def test_a_store_sees_what_another_one_has_written(kept: Kept) -> None:
    await kept.store.change(TRAINING, taking(START))
    await kept.other.change(TRAINING, taking(b.uploaded(ANA)))
    committed = await kept.store.change(TRAINING, taking(b.uploaded(BEN)))
    assert committed.step.training is not None
    assert committed.step.training.seq == 4
    assert await kept.other.get(TRAINING) == committed.step.training


async def test_the_same_message_again_changes_nothing(kept: Kept) -> None:
    for message in (START, b.uploaded(ANA)):
        await kept.store.change(TRAINING, taking(message))
    seen = await kept.events(), await kept.outbox(), await kept.timer()
    for message in (START, b.uploaded(ANA)):
        committed = await kept.other.change(TRAINING, taking(message))
        assert (committed.step.events, committed.posts) == ((), ())
    assert (await kept.events(), await kept.outbox(), await kept.timer()) == seen


async def test_what_is_ordered_twice_is_in_the_outbox_once(kept: Kept) -> None:
    for _ in range(2):
        await kept.store.change(TRAINING, ordering(an_order("once")))
    assert await kept.outbox() == {order_id("once")}


async def test_what_is_settled_is_forgotten_and_nothing_else(kept: Kept) -> None:
    await kept.store.change(TRAINING, ordering(an_order("a"), an_order("b"), a_notice("c")))
    await kept.store.change(TRAINING, ordering(Settle((order_id("a"), order_id("never there")))))
    assert await kept.outbox() == {order_id("b"), order_id("c")}


async def test_what_the_same_change_settles_is_not_posted(kept: Kept) -> None:
    by = ordering(an_order("a"), Settle((order_id("a"),)), an_order("b"), SettleAll(), an_order("c"))
    committed = await kept.store.change(TRAINING, by)
    assert [post.id for post in committed.posts] == [order_id("c")]
    assert await kept.outbox() == {order_id("c")}


async def test_settling_all_leaves_notices_events_and_what_is_ordered_after_it(kept: Kept) -> None:
    started = await kept.store.change(TRAINING, taking(START))
    await kept.store.change(TRAINING, ordering(an_order("a"), a_notice("b")))
    await kept.store.change(TRAINING, ordering(SettleAll(), an_order("c")))
    told = {post.id for post in started.posts if not post.until_answered}
    assert await kept.outbox() == {*told, order_id("b"), order_id("c")}


async def test_a_timer_is_replaced_by_the_next_and_cleared(kept: Kept) -> None:
    await kept.store.change(TRAINING, timer_in(60))
    await kept.store.change(TRAINING, timer_in(60, b.evaluation_timed_out()))
    assert await kept.timer() == b.evaluation_timed_out()
    await kept.store.change(TRAINING, ordering(ClearTimer()))
    assert await kept.timer() is None


async def test_a_timer_is_due_from_its_moment_on_and_stays_until_it_is_cleared(kept: Kept) -> None:
    await kept.store.change(TRAINING, timer_in(60))
    assert list(await kept.store.due()) == []
    await kept.store.change(TRAINING, timer_in(-1))
    first, second = await kept.store.due(), await kept.store.due()
    assert [each.message for each in first] == [b.round_timed_out()]
    assert first == second, "asked again it has the same id"
    await kept.store.change(TRAINING, ordering(ClearTimer()))
    assert list(await kept.store.due()) == []


def whole_training(*clients: ClientId) -> tuple[Input, ...]:
    first, second = (b.a_round(*clients, round=number) for number in range(2))
    return START, *first, *second


@pytest.mark.parametrize("in_one_batch", [True, False])
async def test_the_state_is_the_fold_of_the_events_at_every_moment(kept: Kept, in_one_batch: bool) -> None:
    messages = whole_training(*ALL)
    for batch in [messages] if in_one_batch else [(message,) for message in messages]:
        state = (await kept.store.change(TRAINING, taking(*batch))).step.training
        assert state is not None
        assert await kept.other.get(TRAINING) == state
        assert fold(None, (each.data for each in decoded(await kept.events()))) == state
        assert to_snapshot(state) == to_snapshot((await kept.other.get(TRAINING)) or state)
    assert state is not None
    assert state.is_over
    assert await kept.outbox() == _told(state), "what is to be published, and nothing to be answered"
    assert await kept.timer() is None


def _told(ended: Training, *chosen: int) -> set[MessageId]:
    """`chosen` are the epochs in which the strategy chose."""
    events = (event_id(TRAINING, number + 1) for number in range(ended.seq))
    begun = range(ended.round.number + 1 if ended.round else 0)
    closed = [n for n in begun if ended.plan.strategy.aggregates(n)]
    plans = (reduce_plan(TRAINING, number, epoch) for epoch, number in enumerate(closed, 1))
    kept = (chosen_plan(TRAINING, closed[epoch - 1], epoch) for epoch in chosen)
    notices = (order_id(TRAINING, client, "TrainingEnded", ended.seq) for client in ALL)
    return {*events, *map(order_id, (*plans, *kept)), *notices}


ADAM = (Slot.M, Slot.V)
OF_STRATEGIES: dict[str, tuple[dict[str, Any], tuple[Input, ...], tuple[int, ...]]] = {
    "chooses": (
        {"strategy": Krum(f=1)},
        (*b.taken_in(*ALL), *b.choice(BEN), *b.aggregation()),
        (1,),
    ),
    "chains": (
        {"rounds": 2, "strategy": FedDC(period=2)},
        (*b.taken_in(*ALL), *b.taken_in(*ALL, round=1), *b.aggregation(round=1, version=1)),
        (),
    ),
    "keeps state and selects": (
        {
            "rounds": 5,
            "evaluate_every": 1,
            "strategy": FedAdam(),
            "norm_clip": 1.0,
            "best": BestModel(metric="loss", mode=Mode.MIN, patience=1),
        },
        (
            *(*b.taken_in(*ALL, distance=0.5), *b.aggregation(*ADAM)),
            *(b.measured(client) for client in ALL),
            *(*b.taken_in(*ALL, round=1, tensors=(0, 2)), *b.aggregation(*ADAM, round=1, epoch=2)),
            *(b.measured(client, round=1) for client in ALL),
        ),
        (),
    ),
    "asks for losses": (
        {"strategy": QFedAvg(), "task_attempts": 1, "min_clients": 2},
        (b.uploaded(DAN), *b.taken_in(ANA, BEN, CLEO, metrics={"loss": 0.5}), *b.aggregation()),
        (),
    ),
}


@pytest.mark.parametrize("kind", OF_STRATEGIES)
async def test_what_strategies_add_is_kept_like_everything_else(kept: Kept, kind: str) -> None:
    plan, messages, chosen = OF_STRATEGIES[kind]
    state: Training | None = None
    for message in (b.start(*ALL, plan=b.a_plan(**plan)), *messages):
        state = (await kept.store.change(TRAINING, taking(message))).step.training
        assert await kept.other.get(TRAINING) == state
    assert state is not None
    assert state.state is TrainingState.COMPLETED
    assert fold(None, (each.data for each in decoded(await kept.events()))) == state
    assert await kept.outbox() == _told(state, *chosen)


async def test_a_change_that_reads_only_writes_nothing(kept: Kept) -> None:
    seen: list[Training | None] = []

    def by(training: Training | None, _: datetime) -> Step:
        seen.append(training)
        return Step(training)

    await kept.store.change(TRAINING, taking(START))
    committed = await kept.store.change(TRAINING, by)
    assert committed.posts == ()
    assert seen == [await kept.store.get(TRAINING)]
