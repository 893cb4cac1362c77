"""Who may say what to the scheduler."""

import json
from dataclasses import replace
from typing import Any

import pytest

from infra.broker.delivery import Delivery
from infra.broker.errors import Forged
from schemas.envelope import MAX_MESSAGE_BYTES, MAX_REPORT_BYTES, Malformed, enclose, encode
from schemas.ids import MessageId
from schemas.message import Message
from schemas.reports import Heartbeat
from services.scheduler.admission import admitted, heartbeat
from tests import builders as b
from tests.builders import ANA, BEN, NOON, TRAINING

FROM_A_CLIENT = [b.uploaded(ANA), b.measured(ANA), b.failed(ANA), b.refused(ANA)]
FROM_A_WORKER = [b.accepted(ANA), b.rejected(ANA), b.lost(ANA), b.reduced(0), b.published()]
FROM_REST = [b.start(ANA), b.abort(), b.add(ANA), b.remove(ANA)]
BEAT = Heartbeat(client_id=ANA)
ID = MessageId(TRAINING)


def delivered(message: Message, sender: str | None, *, pad_to: int = 0, **headers: Any) -> Delivery:
    body = encode(enclose(message, id=ID, source="test", time=NOON))
    return Delivery(
        queue="scheduler.p0",
        body=body.ljust(pad_to),
        message_id=str(ID),
        type=message.type,
        user_id=sender,
        sender=sender,
        routing_key="anything",
        attempt=0,
        redelivered=False,
        delivery_tag=1,
        headers=headers,
    )


def named(message: Message) -> str:
    return message.type


@pytest.mark.parametrize(
    ("message", "sender"),
    [
        *((message, str(ANA)) for message in FROM_A_CLIENT),
        *((message, "aggregator") for message in FROM_A_WORKER),
        *((message, "scheduler") for message in FROM_REST),
    ],
)
def test_everybody_may_speak_for_themselves(message: Message, sender: str) -> None:
    received = admitted(delivered(message, sender))
    assert (received.id, received.message) == (ID, message)


OTHERS = {
    str(ANA): [*FROM_A_WORKER, *FROM_REST],
    str(BEN): [*FROM_A_CLIENT, *FROM_A_WORKER, *FROM_REST],
    "aggregator": [*FROM_A_CLIENT, *FROM_REST],
    "scheduler": [*FROM_A_CLIENT, *FROM_A_WORKER],
    "api": [*FROM_A_CLIENT, *FROM_A_WORKER, *FROM_REST],
}


@pytest.mark.parametrize("sender", OTHERS)
def test_nobody_may_speak_for_another(sender: str) -> None:
    for message in OTHERS[sender]:
        with pytest.raises(Forged, match=f"^{message.type} of .* was sent by {sender}$"):
            admitted(delivered(message, sender))


@pytest.mark.parametrize("message", [*FROM_A_CLIENT, *FROM_A_WORKER, *FROM_REST], ids=named)
def test_without_a_sender_or_with_copies_nothing_is_taken(message: Message) -> None:
    for delivery in (delivered(message, None), delivered(message, str(ANA), CC=[])):
        with pytest.raises(Forged):
            admitted(delivery)


def test_a_client_may_say_less_at_once_than_a_service() -> None:
    ours, theirs = delivered(b.reduced(0), "aggregator"), delivered(b.uploaded(ANA), str(ANA))
    assert admitted(delivered(b.reduced(0), "aggregator", pad_to=MAX_MESSAGE_BYTES)) == admitted(ours)
    assert admitted(delivered(b.uploaded(ANA), str(ANA), pad_to=MAX_REPORT_BYTES)) == admitted(theirs)
    for message, sender, limit in (
        (b.reduced(0), "aggregator", MAX_MESSAGE_BYTES),
        (b.uploaded(ANA), str(ANA), MAX_REPORT_BYTES),
    ):
        with pytest.raises(Malformed, match=f"at most {limit}"):
            admitted(delivered(message, sender, pad_to=limit + 1))


def test_a_heartbeat_is_no_message_about_a_training() -> None:
    with pytest.raises(Malformed, match="Heartbeat"):
        admitted(delivered(BEAT, str(ANA)))
    assert heartbeat(delivered(BEAT, str(ANA))) == BEAT


@pytest.mark.parametrize("message", FROM_A_CLIENT, ids=named)
def test_a_report_is_no_heartbeat(message: Message) -> None:
    with pytest.raises(Malformed):
        heartbeat(delivered(message, str(ANA)))


def test_nobodys_heart_beats_for_another() -> None:
    with pytest.raises(Forged):
        heartbeat(delivered(BEAT, str(BEN)))


def test_an_order_for_a_client_is_not_for_the_scheduler() -> None:
    order = b.steps(None, b.start(ANA))[0].orders[1]
    with pytest.raises(Malformed):
        admitted(delivered(order.command, "scheduler"))  # type: ignore[union-attr] # a Send


def test_a_refusal_does_not_repeat_what_was_said() -> None:
    delivery = delivered(b.failed(ANA), str(ANA))
    said = json.loads(delivery.body)
    said["data"]["round"] = "a secret"
    with pytest.raises(Malformed) as refused:
        admitted(replace(delivery, body=json.dumps(said).encode()))
    assert "secret" not in str(refused.value)
