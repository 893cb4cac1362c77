"""FastStream with our rules: explicit acknowledgement, prefetch and channels, and nothing declared.

The broker made here only consumes: publish with `infra.broker.publisher`, on a connection of its own.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any

from aio_pika import IncomingMessage
from faststream import AckPolicy
from faststream.rabbit import Channel, RabbitBroker, RabbitQueue
from faststream.rabbit.annotations import RabbitMessage
from faststream.rabbit.security import RabbitExternalAuth
from faststream.rabbit.subscriber import RabbitSubscriber
from faststream.security import BaseSecurity

from infra.broker.backoff import jittered
from infra.broker.connection import guarded
from infra.broker.delivery import Arrival, Delivery, dead_lettered, received, retried, vouched
from infra.broker.errors import ChannelDied, Forged, PublishFault
from infra.broker.outgoing import Outgoing
from infra.broker.publisher import Publisher
from infra.broker.settings import BrokerSettings
from schemas.envelope import Envelope, decode
from schemas.refusal import Refusal

log = logging.getLogger(__name__)

Handler = Callable[[Envelope[Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Source:
    """What is taken from where: `words` is the union of the messages that may come, from these logins."""

    queue: str
    words: Any  # an Annotated union, which has no type of its own
    senders: Collection[str]
    prefetch: int  # also how many are handled at the same time


def make_broker(settings: BrokerSettings, name: str, *, graceful_timeout_s: float = 15.0) -> RabbitBroker:
    return RabbitBroker(
        str(settings.connection_url(name)),
        security=_security(settings),
        timeout=settings.connect_timeout_s,
        reconnect_interval=1.0,
        default_channel=Channel(publisher_confirms=True, on_return_raises=True),
        ack_policy=AckPolicy.MANUAL,
        graceful_timeout=graceful_timeout_s,
        logger=log,
        log_level=logging.DEBUG,
    )


def subscriber(broker: RabbitBroker, queue: str, prefetch: int) -> RabbitSubscriber:
    """A subscriber on its own channel whose handler gets the raw body and acknowledges itself."""
    return broker.subscriber(
        RabbitQueue(queue, declare=False),
        channel=Channel(prefetch_count=prefetch, publisher_confirms=False),
        ack_policy=AckPolicy.MANUAL,
        decoder=_undecoded,
        no_reply=True,
    )


def subscribe(broker: RabbitBroker, publisher: Publisher, source: Source, handler: Handler) -> None:
    """Acknowledge what the handler has done, dead-letter what it or the envelope refuses, retry the rest."""

    @subscriber(broker, source.queue, source.prefetch)
    async def on_message(message: RabbitMessage) -> None:
        raw = message.raw_message
        assert isinstance(raw, IncomingMessage)
        passed_on = await _handled(_delivery(raw, source.queue, publisher.login), source, handler)
        if passed_on:
            await _publish_patiently(publisher, passed_on)
        try:
            with guarded():
                await raw.ack()
        except ChannelDied as died:
            log.info("a handled message will come again", extra={"queue": source.queue, "reason": str(died)})


async def _handled(delivery: Delivery, source: Source, handler: Handler) -> Outgoing | None:
    try:
        if vouched(delivery) not in source.senders:
            raise Forged(f"{delivery.sender} may not send to {source.queue}")
        await handler(decode(delivery.body, source.words))
    except Refusal as refusal:
        log.warning("message refused", extra=_facts(delivery, refusal))
        return dead_lettered(delivery, f"{refusal.code}: {refusal}")
    except Exception as fault:  # nothing may stop the consumer; what cannot be handled is tried again
        log.exception("message not handled", extra=_facts(delivery, fault))
        return retried(delivery, f"{type(fault).__name__}: {fault}")
    return None


async def _publish_patiently(publisher: Publisher, message: Outgoing) -> None:
    """An unacknowledged message would keep its place in the prefetch for ever, so it is not given up."""
    waits = jittered()
    while True:
        try:
            await publisher.publish(message)
            return
        except PublishFault as fault:
            log.warning("message not passed on yet", extra={"key": message.key, "reason": str(fault)})
            await asyncio.sleep(next(waits))


def _delivery(raw: IncomingMessage, queue: str, login: str) -> Delivery:
    arrival = Arrival(
        queue, login, raw.routing_key or "", raw.delivery_tag or 0, redelivered=bool(raw.redelivered)
    )
    return received(raw.properties, raw.body, arrival)


def _facts(delivery: Delivery, error: Exception) -> dict[str, str]:
    return {"queue": delivery.queue, "message_id": delivery.message_id, "reason": str(error)}


def _security(settings: BrokerSettings) -> BaseSecurity | None:
    context = settings.tls()
    if context is None:
        return None
    return RabbitExternalAuth(context) if settings.certificate_file else BaseSecurity(context)


async def _undecoded(message: RabbitMessage) -> bytes:
    return message.body
