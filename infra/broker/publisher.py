"""Publishing with the broker's word for it."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import aiormq
from aiormq.exceptions import DeliveryError, PublishError

from infra.broker.connection import Connection, guarded
from infra.broker.errors import (
    BrokerFault,
    LoginRefused,
    OutcomeUnknown,
    PublishFault,
    PublishRefused,
    Unroutable,
)
from infra.broker.outgoing import Outgoing, properties


@dataclass(frozen=True, slots=True)
class Confirmed:
    """Every queue the message was routed to has it on disk."""


Outcome = Confirmed | Unroutable | PublishRefused | OutcomeUnknown
_CONFIRMED = Confirmed()


class Publisher:
    """Persistent, mandatory, confirmed, under our own name, each within a time limit.

    Give it a connection of its own.  After the connection was lost the next message makes it again.
    """

    def __init__(self, connection: Connection) -> None:
        self.login = connection.settings.login
        self._connection = connection
        self._timeout_s = connection.settings.publish_timeout_s
        self._channel: aiormq.Channel | None = None
        self._opening = asyncio.Lock()

    async def publish(self, message: Outgoing) -> None:
        """Returns once it is confirmed; raises `Unroutable`, `PublishRefused` or `OutcomeUnknown`."""
        outcome = await self._publish(message)
        if isinstance(outcome, PublishFault):
            raise outcome

    async def publish_all(self, messages: Iterable[Outgoing], window: int = 100) -> list[Outcome]:
        """What became of each, in the given order, which is also the order of publishing.

        Their message ids must differ: returned messages are told apart by them.
        """
        remaining = iter(messages)
        outcomes: list[Outcome] = []
        while batch := list(islice(remaining, window)):
            outcomes += await asyncio.gather(*map(self._publish, batch))
        return outcomes

    async def _publish(self, message: Outgoing) -> Outcome:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._confirmed(message)
        except (BrokerFault, LoginRefused, TimeoutError) as error:  # a login can be put right meanwhile
            unknown = OutcomeUnknown(message.exchange, message.key)
            unknown.__cause__ = error
            return unknown

    async def _confirmed(self, message: Outgoing) -> Outcome:
        channel = await self._open_channel()
        with guarded():
            try:
                await channel.basic_publish(
                    message.body,
                    exchange=message.exchange,
                    routing_key=message.key,
                    properties=properties(message, self.login),
                    mandatory=True,
                    wait=False,
                )
            except PublishError:
                return Unroutable(message.exchange, message.key)
            except DeliveryError:
                return PublishRefused(message.exchange, message.key)
        return _CONFIRMED

    async def _open_channel(self) -> aiormq.Channel:
        async with self._opening:
            if self._channel is None or self._channel.is_closed or not self._connection.is_open:
                self._channel = await self._connection.channel(confirms=True)
            return self._channel
