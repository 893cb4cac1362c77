"""A connection to the broker, and the one place where its library's errors become ours."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self, cast

import aiormq
from aiormq.exceptions import AMQPError, ProbableAuthenticationError, ProtocolSyntaxError

from infra.broker.backoff import jittered
from infra.broker.errors import BrokerUnavailable, ChannelDied, LoginRefused
from infra.broker.settings import BrokerSettings
from infra.broker.transport import HarmlessTransport

log = logging.getLogger(__name__)


class Connection:
    """One TCP connection.  Once it is lost, the next one who asks for a channel makes it again.

    Publish and consume on separate connections: a broker in alarm stops reading from those that publish,
    acknowledgements included.
    """

    def __init__(self, settings: BrokerSettings, name: str) -> None:
        self.settings = settings
        self.name = name
        self._line: aiormq.Connection | None = None
        self._dialling = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def is_open(self) -> bool:
        return self._line is not None and self._line.is_opened

    async def open(self) -> None:
        """Raises `LoginRefused` or `BrokerUnavailable`."""
        async with self._dialling:
            if not self.is_open:
                self._line = await _dial(self.settings, self.name)

    async def channel(self, *, confirms: bool = False) -> aiormq.Channel:
        """A new channel.  With confirms, mandatory messages that come back raise."""
        await self.open()
        assert self._line is not None
        with guarded():
            async with asyncio.timeout(self.settings.connect_timeout_s):
                channel = await self._line.channel(publisher_confirms=confirms, on_return_raises=confirms)
                return cast(aiormq.Channel, channel)

    async def close(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            await line.close()


async def connect(settings: BrokerSettings, name: str) -> Connection:
    """Connect now, or say why not: `LoginRefused` (asking again is no use) or `BrokerUnavailable`."""
    connection = Connection(settings, name)
    await connection.open()
    return connection


async def connect_patiently(
    settings: BrokerSettings, name: str, on_wait: Callable[[BrokerUnavailable, float], None] | None = None
) -> Connection:
    """Connect, however long it takes.  `on_wait` hears why, and how many seconds until the next attempt."""
    waits = jittered()
    while True:
        try:
            return await connect(settings, name)
        except BrokerUnavailable as error:
            wait = next(waits)
            if on_wait:
                on_wait(error, wait)
            await asyncio.sleep(wait)


@contextmanager
def guarded() -> Iterator[None]:
    """Turn whatever a dead channel throws at who waits on it into `ChannelDied`.

    aiormq throws `CancelledError` too; it is let through only if the task really is being cancelled.
    """
    try:
        yield
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise ChannelDied("it was closed") from error
    except (AMQPError, OSError, RuntimeError) as error:
        raise ChannelDied(str(error) or repr(error)) from error
    except Exception as error:
        if type(error) is not Exception:  # the bare one is what aiormq rejects with if it knows no reason
            raise
        raise ChannelDied("it was closed") from error


async def _dial(settings: BrokerSettings, name: str) -> aiormq.Connection:
    url, context = settings.connection_url(name), settings.tls()
    line = aiormq.Connection(url, context=context, transport_factory=HarmlessTransport())
    try:
        async with asyncio.timeout(settings.connect_timeout_s):
            await line.connect()
    except ProbableAuthenticationError as error:
        raise LoginRefused(settings.login, settings.place) from error
    except ProtocolSyntaxError as error:
        why = (
            "it hung up: does the virtual host exist, may the login use it, "
            "has it connections left or is somebody else using them?"
        )
        raise BrokerUnavailable(settings.place, why) from error
    except (AMQPError, OSError) as error:
        raise BrokerUnavailable(settings.place, str(error) or repr(error)) from error
    log.info("connected to the broker", extra={"connection": name, "broker": settings.place})
    return line
