"""Tables for people."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from agents.operator.answers import Client
from agents.operator.tables import figure, metrics_text, presence
from tests.builders import NOON


def a_client(**changes: Any) -> Client:
    told = {
        "id": UUID(int=1),
        "username": "ana",
        "enrolled_at": NOON,
        "revoked_at": None,
        "seen_at": NOON,
        "tasks_in_hand": 0,
        "leaving": False,
        "version": "",
    }
    return Client(**(told | changes))


@pytest.mark.parametrize(
    ("client", "told"),
    [
        (a_client(), "present"),
        (a_client(seen_at=None), "never seen"),
        (a_client(revoked_at=NOON), "revoked"),
        (a_client(leaving=True), "away since 2026-01-01 12:00:00 UTC"),
        (a_client(seen_at=NOON - timedelta(minutes=1)), "away since 2026-01-01 11:59:00 UTC"),
    ],
)
def test_presence_follows_from_the_last_heartbeat(client: Client, told: str) -> None:
    assert presence(client, NOON + timedelta(seconds=5)) == told


def test_metrics_are_shown_in_the_order_of_their_names() -> None:
    assert metrics_text({"loss": 0.5, "accuracy": 1}) == "accuracy 1.0000 loss 0.5000"


def test_what_is_not_known_is_a_dash() -> None:
    assert figure(None) == "–"  # noqa: RUF001 - a dash in a table
