"""What a step means for the tables."""

from schemas.commands import AggregatorCommand, CancelTask, ClientCommand, TrainRound
from schemas.envelope import decode
from schemas.events import Event
from schemas.identity import event_id, order_id
from services.scheduler.orders import (
    ClearTimer,
    Order,
    Send,
    SetTimer,
    Settle,
    SettleAll,
    StoreObject,
)
from services.scheduler.posting import OBJECTS, Postings, Stamp, postings
from services.scheduler.saga import Step
from tests import builders as b
from tests.builders import ANA, BEN, NOON, TRAINING


def posted(*orders: Order) -> Postings:
    return postings(TRAINING, Step(None, orders=orders), NOON)


def an_order(name: str, *, until_answered: bool = True) -> Send:
    command = CancelTask(training_id=TRAINING, task_id=b.a_task(ANA), client_id=ANA, round=0, reason=name)
    return Send(order_id(name), command, until_answered)


def test_events_become_envelopes_with_their_place_their_moment_and_their_cause() -> None:
    (step,) = b.steps(None, b.start(ANA, BEN))
    found = postings(TRAINING, step, NOON).events
    envelopes = [decode(post.body, Event) for post in found]
    assert [envelope.data for envelope in envelopes] == [recorded.event for recorded in step.events]
    assert [(e.id, e.sequence) for e in envelopes] == [(event_id(TRAINING, n), n) for n in (1, 2)]
    assert {(e.time, e.causationid, e.source) for e in envelopes} == {
        (NOON, b.received(b.start(ANA, BEN)).id, "scheduler")
    }
    assert [post.id for post in found] == [envelope.id for envelope in envelopes]


def test_the_same_step_gives_the_same_bytes() -> None:
    (step,) = b.steps(None, b.start(ANA, BEN))
    assert postings(TRAINING, step, NOON) == postings(TRAINING, step, NOON)


def test_an_event_goes_to_everybody_and_an_order_to_its_addressee() -> None:
    (step,) = b.steps(None, b.start(ANA))
    found = postings(TRAINING, step, NOON)
    assert [(post.exchange, post.routing_key) for post in found.events] == [
        ("events", f"training.{TRAINING}.TrainingStarted"),
        ("events", f"training.{TRAINING}.RoundStarted"),
    ]
    (order,) = found.posts.values()
    assert (order.exchange, order.routing_key, order.until_answered) == ("clients", str(ANA), True)
    assert isinstance(decode(order.body, ClientCommand).data, TrainRound)


def test_an_order_to_a_worker_goes_to_all_of_them() -> None:
    training = b.a_training(ANA)
    found = postings(TRAINING, b.steps(training, b.uploaded(ANA))[0], NOON)
    (order,) = found.posts.values()
    assert (order.exchange, order.routing_key) == ("commands", "aggregator.InspectUpdate")
    assert decode(order.body, AggregatorCommand).subject == "aggregator"


def test_an_object_is_posted_to_the_store_under_its_key() -> None:
    (post,) = posted(StoreObject(order_id("plan"), "rounds/1", b"{}")).posts.values()
    assert (post.exchange, post.routing_key, post.body, post.until_answered) == (
        OBJECTS,
        "rounds/1",
        b"{}",
        False,
    )


def test_posts_keep_the_order_in_which_they_were_asked_for() -> None:
    names = ["c", "a", "b"]
    assert list(posted(*map(an_order, names)).posts) == [order_id(name) for name in names]


def test_what_a_later_order_settles_is_not_posted_and_yet_forgotten() -> None:
    found = posted(an_order("a"), an_order("b"), Settle((order_id("a"), order_id("old"))))
    assert list(found.posts) == [order_id("b")]
    assert found.settled == {order_id("a"), order_id("old")}


def test_settling_all_spares_notices_and_what_comes_after_it() -> None:
    found = posted(an_order("a"), an_order("notice", until_answered=False), SettleAll(), an_order("after"))
    assert list(found.posts) == [order_id("notice"), order_id("after")]
    assert found.settles_all


def test_the_last_word_about_the_timer_counts() -> None:
    timer = SetTimer(b.round_timed_out(), NOON)
    assert posted().timer is None
    assert posted(ClearTimer(), timer).timer == timer
    assert posted(timer, ClearTimer()).timer == ClearTimer()


def test_a_stamp_is_read_from_any_envelope() -> None:
    (step,) = b.steps(None, b.start(ANA))
    (order,) = postings(TRAINING, step, NOON).posts.values()
    assert Stamp.model_validate_json(order.body) == Stamp(type="TrainRound", time=NOON)
