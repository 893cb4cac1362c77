"""The event stream beside the event table."""

from hypothesis import given
from hypothesis import strategies as st

from agents.operator.copies import Comparison, Numbered
from schemas.envelope import encode
from schemas.events import Event
from tests.builders import ANA, TRAINING
from tests.unit.operator.happenings import a_completion, a_round, a_start, enclosed

EVENTS: tuple[Event, ...] = (a_start(ANA), a_round(ANA), a_completion())
BODIES = tuple(encode(enclosed(event, seq)) for seq, event in enumerate(EVENTS, 1))
TABLE: dict[Numbered, bytes] = {(TRAINING, seq): body for seq, body in enumerate(BODIES, 1)}


@given(st.permutations(BODIES), st.lists(st.sampled_from(BODIES)))
def test_order_and_repeats_are_no_faults(bodies: list[bytes], again: list[bytes]) -> None:
    compared = compare(TABLE, *bodies, *again)
    assert compared.faults == ()
    assert compared.repeats == len(again)


def test_an_event_that_the_stream_lacks_is_told() -> None:
    assert compare(TABLE, BODIES[0], BODIES[2]).faults == (
        f"event 2 of training {TRAINING} is not in the stream",
    )


def test_an_event_that_differs_by_a_byte_is_told() -> None:
    compared = compare(TABLE, *BODIES, BODIES[1] + b" ")
    assert compared.faults == (
        f"event 2 of training {TRAINING} is another one in the stream than in the table",
    )


def test_events_that_the_table_does_not_know_are_counted() -> None:
    compared = compare({}, *BODIES)
    assert (compared.strangers, compared.faults) == (3, ())


def compare(table: dict[Numbered, bytes], *bodies: bytes) -> Comparison:
    comparison = Comparison(table)
    for body in bodies:
        comparison.look_at(body)
    return comparison
