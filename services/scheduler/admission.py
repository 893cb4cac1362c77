"""Who may say what: turns deliveries into messages of the saga, or refuses them."""

from infra.broker.delivery import Delivery, vouched
from infra.broker.errors import Forged
from schemas.envelope import MAX_MESSAGE_BYTES, MAX_REPORT_BYTES, Malformed, decode
from schemas.message import Message
from schemas.reports import Heartbeat
from schemas.routing import FROM_CLIENTS, REPORTS, Role, SchedulerInput
from services.scheduler.decide import Input
from services.scheduler.saga import Received

_SERVICES = frozenset({Role.SCHEDULER, Role.AGGREGATOR})


def admitted(delivery: Delivery) -> Received:
    """The message, if it is well formed and the broker vouches for who may send it.

    Raises `Malformed` or `Forged`.
    """
    sender = vouched(delivery)
    limit = MAX_MESSAGE_BYTES if sender in _SERVICES else MAX_REPORT_BYTES
    envelope = decode(delivery.body, SchedulerInput, limit=limit)
    if isinstance(envelope.data, Heartbeat):
        raise Malformed("a heartbeat is about no training; its routing key must end in .Heartbeat")
    _check_speaks_for_itself(envelope.data, sender)
    message: Input = envelope.data
    return Received(envelope.id, message)


def heartbeat(delivery: Delivery) -> Heartbeat:
    """A client's sign of life; raises `Malformed` or `Forged`."""
    sender = vouched(delivery)
    message: Heartbeat = decode(delivery.body, Heartbeat, limit=MAX_REPORT_BYTES).data
    _check_speaks_for_itself(message, sender)
    return message


def _check_speaks_for_itself(message: Message, sender: str) -> None:
    if message.type in FROM_CLIENTS:
        expected = str(getattr(message, "client_id", ""))
    else:
        expected = Role.AGGREGATOR if message.type in REPORTS else Role.SCHEDULER
    if sender != expected:
        raise Forged(f"{message.type} of {expected} was sent by {sender}")
