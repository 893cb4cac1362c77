"""Who sent a message, and where it goes when it cannot be handled."""

from dataclasses import replace
from typing import Any

import pytest
from aiormq import spec
from hypothesis import given
from hypothesis import strategies as st

from infra.broker.delivery import (
    KEY_HEADER,
    MAX_ATTEMPTS,
    SENDER_HEADER,
    Arrival,
    Delivery,
    dead_lettered,
    received,
    refused,
    retried,
    vouched,
)
from infra.broker.errors import Forged
from infra.broker.outgoing import Outgoing, properties
from infra.broker.topology import LADDER
from schemas.envelope import MAX_MESSAGE_BYTES
from schemas.routing import ATTEMPT_HEADER, ORIGIN_HEADER, REASON_HEADER, TRAINING_HEADER
from tests.builders import ANA

texts = st.text(max_size=20)
header_values = st.none() | st.booleans() | st.integers() | texts | st.lists(texts) | st.binary(max_size=8)


def delivered(user_id: str | None = "ana", **headers: Any) -> Delivery:
    told = spec.Basic.Properties(
        message_id="m1", message_type="ModelUploaded", user_id=user_id, headers=headers or None
    )
    return received(told, b"{}", an_arrival())


def an_arrival(key: str = "ana.ModelUploaded") -> Arrival:
    return Arrival("scheduler.p0", "scheduler", key, delivery_tag=1, redelivered=False)


def returned(message: Outgoing, login: str = "scheduler") -> Delivery:
    """As the broker brings a message back from the ladder."""
    return received(properties(message, login), message.body, an_arrival(message.key))


def test_the_sender_is_whom_the_broker_vouches_for() -> None:
    assert vouched(delivered("ana")) == "ana"


@pytest.mark.parametrize(
    "one", [delivered(None), delivered("ana", CC=["x"]), delivered("ana", BCC=["x"]), delivered(None, CC=[])]
)
def test_an_unsigned_or_copied_message_is_forged(one: Delivery) -> None:
    with pytest.raises(Forged):
        vouched(one)


@given(st.sampled_from(["ana", "aggregator", None]), header_values, header_values, header_values)
def test_nobody_else_can_say_what_we_say_on_the_ladder(
    user: str | None, sender: object, key: object, attempt: object
) -> None:
    one = delivered(user, **{SENDER_HEADER: sender, KEY_HEADER: key, ATTEMPT_HEADER: attempt})
    assert (one.sender, one.routing_key, one.attempt) == (user, "ana.ModelUploaded", 0)


@given(st.sampled_from(["ana", None]), st.dictionaries(texts, header_values, max_size=4))
def test_the_ladder_keeps_the_message_its_sender_its_training_and_its_trace(
    user: str | None, headers: dict[str, Any]
) -> None:
    kept = {TRAINING_HEADER: "7", "traceparent": "00-1-2-01"}
    first = delivered(user, **{**headers, **kept})
    second = returned(retried(first, "no database"))
    assert (second.attempt, second.sender) == (1, user)
    assert (second.body, second.message_id, second.routing_key) == (
        first.body,
        first.message_id,
        first.routing_key,
    )
    ours = {ATTEMPT_HEADER, REASON_HEADER, ORIGIN_HEADER, KEY_HEADER, SENDER_HEADER}
    assert {name: value for name, value in second.headers.items() if name not in ours} == kept


@given(header_values | st.floats() | st.just("x" * 100_000), header_values)
def test_whatever_is_passed_on_can_be_written(training: object, other: object) -> None:
    headers: dict[str, Any] = {TRAINING_HEADER: training, "other": other}
    passed_on = dead_lettered(delivered("ana", **headers), "why")
    assert len(properties(passed_on, "scheduler").marshal()) < 10_000


def test_the_ladder_is_climbed_to_its_top_and_then_given_up() -> None:
    one = delivered(**{TRAINING_HEADER: "7"})
    way = []
    for _ in range(MAX_ATTEMPTS):
        message = retried(one, "no database")
        way.append(message.exchange)
        one = returned(message)
    top = LADDER[-1].exchange
    assert way[:5] == [*(level.exchange for level in LADDER), top]
    assert way[-2:] == [top, "dead-letters"]
    assert str(one.headers[REASON_HEADER]).startswith(f"gave up after {MAX_ATTEMPTS} attempts: no database")


def test_on_the_ladder_the_key_is_the_queue_and_as_a_dead_letter_the_first_key() -> None:
    assert retried(delivered(), "why").key == "scheduler.p0"
    assert dead_lettered(returned(retried(delivered(), "why")), "why").key == "ana.ModelUploaded"


def test_what_a_site_refuses_is_a_dead_letter_under_its_own_name() -> None:
    one = replace(delivered("scheduler", traceparent="t"), queue="client.ana.x", routing_key=str(ANA))
    told = refused(one, ANA, "malformed: no JSON")
    assert (told.exchange, told.key, told.body) == ("uplink", f"{ANA}.Refused", one.body)
    assert (told.message_id, told.type) == (one.message_id, one.type)
    assert told.headers == dead_lettered(one, "malformed: no JSON").headers
    assert told.headers == {
        "traceparent": "t",
        "warren-attempt": 0,
        "warren-reason": "malformed: no JSON",
        "warren-origin": "client.ana.x",
        "warren-key": str(ANA),
        "warren-sender": "scheduler",
    }


def test_a_site_sends_back_no_more_than_a_message_may_hold() -> None:
    huge = replace(delivered(), body=b"x" * (MAX_MESSAGE_BYTES + 1))
    assert refused(huge, ANA, "too large").body == b"x" * MAX_MESSAGE_BYTES


def test_copies_are_not_sent_again_and_the_brokers_own_headers_stay_with_it() -> None:
    headers: dict[str, Any] = {"CC": ["x"], "BCC": ["y"], "x-death": [], "traceparent": "t"}
    passed_on = dead_lettered(delivered("ana", **headers), "why").headers
    assert passed_on.keys() & headers.keys() == {"traceparent"}


def test_a_reason_is_cut_short() -> None:
    assert len(dead_lettered(delivered(), "x" * 10_000).headers[REASON_HEADER]) == 1_000


@pytest.mark.parametrize("count", [-5, "3", None, True])
def test_a_strange_count_of_our_own_does_not_stop_the_ladder(count: object) -> None:
    one = delivered("scheduler", **{SENDER_HEADER: "ana", ATTEMPT_HEADER: count})
    assert retried(replace(one), "why").exchange in {LADDER[0].exchange, LADDER[1].exchange}
