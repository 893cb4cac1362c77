"""Whether stored events and snapshots are recognised as what they must be."""

import pytest

from schemas.envelope import encode
from schemas.events import Event
from services.scheduler.evolve import fold
from services.scheduler.state import to_snapshot
from services.scheduler.verify import fault_of
from tests.builders import ANA
from tests.unit.operator.happenings import a_round, a_start, an_upload, enclosed

EVENTS: tuple[Event, ...] = (a_start(ANA), a_round(ANA), an_upload(ANA, 0.5))
ROWS = tuple((seq, encode(enclosed(event, seq))) for seq, event in enumerate(EVENTS, 1))


def snapshot(upto: int) -> bytes:
    training = fold(None, EVENTS[:upto])
    assert training
    return to_snapshot(training)


@pytest.mark.parametrize("upto", [1, 2, 3])
def test_a_snapshot_that_is_the_fold_of_its_events_is_fine(upto: int) -> None:
    assert fault_of(ROWS, 3, snapshot(upto), upto) is None


def test_a_training_that_nobody_started_has_neither_events_nor_snapshot() -> None:
    assert fault_of((), 0, None, 0) is None


def test_a_snapshot_of_another_moment_is_a_fault() -> None:
    assert fault_of(ROWS, 3, snapshot(2), 3) == "its snapshot is not the fold of its first 3 events"


def test_a_gap_is_a_fault() -> None:
    fault = fault_of((ROWS[0], ROWS[2]), 3, snapshot(1), 1)
    assert fault == "its events are not numbered from 1 to 3 without a gap"


def test_an_event_in_the_row_of_another_is_a_fault() -> None:
    moved = (ROWS[0], (2, ROWS[2][1]), (3, ROWS[1][1]))
    assert fault_of(moved, 3, snapshot(1), 1) == "an event says another number than its row"


def test_an_event_that_cannot_be_read_is_a_fault() -> None:
    broken = (*ROWS[:2], (3, b"{}"))
    assert str(fault_of(broken, 3, snapshot(1), 1)).startswith("an event cannot be read")
