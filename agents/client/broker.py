"""The agent's two lines to the broker: one takes commands from its queue, one reports."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from uuid import uuid4

from agents.client.training import Report
from infra.broker.backoff import jittered
from infra.broker.connection import Connection, guarded
from infra.broker.consumer import Intake
from infra.broker.delivery import Delivery, refused
from infra.broker.errors import BrokerUnavailable, PublishFault
from infra.broker.outgoing import Outgoing, outgoing
from infra.broker.publisher import Publisher
from schemas.envelope import enclose
from schemas.ids import ClientId, MessageId
from schemas.reports import Heartbeat
from schemas.routing import FROM_CLIENTS

log = logging.getLogger(__name__)

_LONGEST_WAIT_S = 15.0

Settle = Callable[[Delivery], Awaitable[None]]


class BrokerUplink:
    def __init__(self, publisher: Publisher, client: ClientId) -> None:
        self._publisher, self._client = publisher, client

    async def report(self, report: Report, message_id: MessageId) -> None:
        await self._publish_patiently(self._enclosed(report, message_id))

    async def refuse(self, delivery: Delivery, reason: str) -> None:
        await self._publish_patiently(refused(delivery, self._client, reason))

    async def beat(self, heartbeat: Heartbeat) -> None:
        with suppress(PublishFault):
            await self._publisher.publish(self._enclosed(heartbeat, MessageId(uuid4())))

    async def _publish_patiently(self, message: Outgoing) -> None:
        for wait in jittered(longest_s=_LONGEST_WAIT_S):
            try:
                await self._publisher.publish(message)
            except PublishFault as fault:
                log.warning("report was not confirmed", extra={"key": message.key, "fault": str(fault)})
                await asyncio.sleep(wait)
            else:
                return

    def _enclosed(self, said: Report | Heartbeat, message_id: MessageId) -> Outgoing:
        envelope = enclose(said, id=message_id, source=f"client/{self._client}", time=datetime.now(UTC))
        route = FROM_CLIENTS[said.type]
        return outgoing(envelope, route.exchange, route.key_for(said, sender=str(self._client)))


async def take_commands(connection: Connection, queue: str, prefetch: int, settle: Settle) -> None:
    """One after the other; each is acked when it is settled.  Raises when the channel dies."""
    channel = await connection.channel()
    try:
        with guarded():
            await channel.basic_qos(prefetch_count=prefetch)
        commands = Intake(channel, connection.settings.login)
        await commands.consume(queue)
        log.info("queue was opened", extra={"queue": queue})
        async for batch in commands.batches():
            for delivery in batch:
                await settle(delivery)
                await commands.ack((delivery,))
    finally:
        await channel.close()


async def open_patiently(connection: Connection) -> None:
    """However long it takes; raises `LoginRefused`, for asking again would be of no use."""
    for wait in jittered(longest_s=_LONGEST_WAIT_S):
        try:
            await connection.open()
        except BrokerUnavailable as error:
            log.warning("broker was not reached", extra={"reason": str(error), "next_try_s": round(wait, 1)})
            await asyncio.sleep(wait)
        else:
            return
