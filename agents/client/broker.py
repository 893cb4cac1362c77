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
from infra.broker.delivery import Delivery
from infra.broker.errors import BrokerUnavailable, PublishFault
from infra.broker.outgoing import Outgoing, outgoing
from infra.broker.publisher import Publisher
from schemas.envelope import enclose
from schemas.ids import ClientId, MessageId
from schemas.refusal import Refusal
from schemas.reports import Heartbeat
from schemas.routing import FROM_CLIENTS

log = logging.getLogger(__name__)

_LONGEST_WAIT_S = 15.0

Obey = Callable[[bytes], Awaitable[None]]


class BrokerUplink:
    def __init__(self, publisher: Publisher, client: ClientId) -> None:
        self._publisher, self._client = publisher, client

    async def report(self, report: Report, message_id: MessageId) -> None:
        message = self._enclosed(report, message_id)
        for wait in jittered(longest_s=_LONGEST_WAIT_S):
            try:
                await self._publisher.publish(message)
            except PublishFault as fault:
                log.warning("report was not confirmed", extra={"on": report.type, "fault": str(fault)})
                await asyncio.sleep(wait)
            else:
                return

    async def beat(self, heartbeat: Heartbeat) -> None:
        with suppress(PublishFault):
            await self._publisher.publish(self._enclosed(heartbeat, MessageId(uuid4())))

    def _enclosed(self, said: Report | Heartbeat, message_id: MessageId) -> Outgoing:
        envelope = enclose(said, id=message_id, source=f"client/{self._client}", time=datetime.now(UTC))
        route = FROM_CLIENTS[said.type]
        return outgoing(envelope, route.exchange, route.key_for(said, sender=str(self._client)))


class _Commands(Intake):
    """An agent may publish no dead letter: what it rejects, its queue passes to the dead letters."""

    async def reject(self, delivery: Delivery) -> None:
        with guarded():
            await self._channel.basic_reject(delivery.delivery_tag, requeue=False, wait=False)
        del self._unacked[delivery.delivery_tag]


async def take_commands(connection: Connection, queue: str, prefetch: int, obey: Obey) -> None:
    """One after the other; each is acked when it is obeyed.  Raises when the channel dies."""
    channel = await connection.channel()
    try:
        with guarded():
            await channel.basic_qos(prefetch_count=prefetch)
        commands = _Commands(channel, connection.settings.login)
        await commands.consume(queue)
        log.info("queue was opened", extra={"queue": queue})
        async for batch in commands.batches():
            for delivery in batch:
                await _settle(commands, delivery, obey)
    finally:
        await channel.close()


async def _settle(commands: _Commands, delivery: Delivery, obey: Obey) -> None:
    try:
        await obey(delivery.body)
    except Refusal as no:
        facts = {"code": no.code, "reason": str(no), "message_id": delivery.message_id}
        log.warning("command was refused", extra=facts)
        await commands.reject(delivery)
    else:
        await commands.ack((delivery,))


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
