"""Consuming in batches: whatever is at hand, in order, acknowledged together."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import aiormq
from aiormq.abc import DeliveredMessage

from infra.broker.connection import Connection, guarded
from infra.broker.delivery import Arrival, Delivery, dead_lettered, received, retried
from infra.broker.errors import ChannelDied
from infra.broker.publisher import Publisher

Batch = tuple[Delivery, ...]


class Intake:
    """The deliveries of one channel.  It lives as long as that: then `ChannelDied`, and a new one is due.

    Deliveries are handed out in the order in which they came, over all queues of the channel.
    """

    def __init__(self, channel: aiormq.Channel, login: str) -> None:
        self._channel = channel
        self._login = login
        self._waiting: deque[Delivery] = deque()
        self._unacked: dict[int, Delivery] = {}  # by delivery tag, ascending
        self._stirred = asyncio.Event()
        self._death: str | None = None
        channel.closing.add_done_callback(self._on_closed)
        channel.on_consumer_cancel_callbacks.add(self._on_cancelled)

    async def consume(self, queue: str, arguments: Mapping[str, Any] | None = None) -> None:
        with guarded():
            await self._channel.basic_consume(
                queue, partial(self._on_message, queue), arguments=dict(arguments or {})
            )

    async def batches(self, max_size: int = 500) -> AsyncIterator[Batch]:
        """All that is at hand, at least one and at most `max_size`.  Never ends; raises `ChannelDied`."""
        while True:
            await self._stirred.wait()
            self._raise_if_dead()
            size = min(len(self._waiting), max_size)
            batch = tuple(self._waiting.popleft() for _ in range(size))
            if not self._waiting:
                self._stirred.clear()
            yield batch

    async def ack(self, deliveries: Collection[Delivery]) -> None:
        """Nothing is acknowledged of a channel that died: its deliveries come again."""
        self._raise_if_dead()
        if any(self._unacked.get(one.delivery_tag) is not one for one in deliveries):
            raise ChannelDied("a delivery is of an earlier channel, or was acknowledged before")
        with guarded():
            for tag, multiple in self._frames({one.delivery_tag for one in deliveries}):
                await self._channel.basic_ack(tag, multiple=multiple, wait=False)
        for one in deliveries:
            del self._unacked[one.delivery_tag]

    def _frames(self, tags: set[int]) -> list[tuple[int, bool]]:
        """One frame for all up to the first delivery that is still in work, then one for each."""
        done = 0
        for tag in self._unacked:
            if tag not in tags:
                break
            done = tag
        single = [(tag, False) for tag in sorted(tags) if tag > done]
        return [(done, True), *single] if done else single

    async def _on_message(self, queue: str, message: DeliveredMessage) -> None:
        arrival = Arrival(
            queue,
            self._login,
            message.routing_key or "",
            message.delivery_tag or 0,
            redelivered=bool(message.redelivered),
        )
        delivery = received(message.header.properties, message.body, arrival)
        self._unacked[delivery.delivery_tag] = delivery
        self._waiting.append(delivery)
        self._stirred.set()

    def _on_closed(self, closing: asyncio.Future[Any]) -> None:
        error = None if closing.cancelled() else closing.exception()
        self._die(str(error) if error and str(error) else "it was closed")

    def _on_cancelled(self, frame: aiormq.spec.Basic.Cancel) -> None:
        self._die("the broker ended a consumer: its queue was deleted or lost its leader")

    def _die(self, why: str) -> None:
        self._death = self._death or why
        self._stirred.set()

    def _raise_if_dead(self) -> None:
        if self._death:
            raise ChannelDied(self._death)


class Batches(Intake):
    """Deliveries that can also be passed on.  Never nacked: that is a hot loop, and uncounted from 4.3 on.

    Passing on is publishing, then acknowledging: its `PublishFault` means that the delivery is still ours.
    """

    def __init__(self, channel: aiormq.Channel, publisher: Publisher) -> None:
        super().__init__(channel, publisher.login)
        self._publisher = publisher

    async def retry(self, delivery: Delivery, reason: str) -> None:
        """For a fault: it comes back to its queue later, and ends as a dead letter after the last attempt."""
        await self._publisher.publish(retried(delivery, reason))
        await self.ack((delivery,))

    async def dead_letter(self, delivery: Delivery, reason: str) -> None:
        """For a refusal: it will never be any better."""
        await self._publisher.publish(dead_lettered(delivery, reason))
        await self.ack((delivery,))


@asynccontextmanager
async def consuming(
    connection: Connection, publisher: Publisher, queues: Collection[str], *, prefetch: int
) -> AsyncIterator[Batches]:
    """Consume from queues on a channel of their own, at most `prefetch` unacknowledged of each.

    Leaving it closes the channel: what was not acknowledged goes back to its queue.
    """
    channel = await connection.channel()
    try:
        with guarded():
            await channel.basic_qos(prefetch_count=prefetch)
        batches = Batches(channel, publisher)
        for queue in queues:
            await batches.consume(queue)
        yield batches
    finally:
        await channel.close()
