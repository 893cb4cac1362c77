"""Reading from the broker without being killed by what one hostile sender wrote.

A message's properties may be fine for RabbitMQ and yet be more than the AMQP library can decode: a timestamp
in the year 36 million, bytes that are no UTF-8, tables nested five hundred deep.  The library then drops the
connection; the message comes again, and drops the next one.  So properties that cannot be decoded are blanked
before the library sees them: the message arrives unsigned, and is refused like any other unsigned message.
"""

import asyncio
from typing import Any, cast

import pamqp.frame
from aiormq.connection import TCPTransportFactory, TLSTransportFactory, TransportFactory
from pamqp.constants import FRAME_END_CHAR, FRAME_HEADER
from yarl import URL

_HEAD = 7  # type, channel, size
_FIXED = 12  # class, weight and body size, before the properties


class HarmlessTransport(TransportFactory):
    async def create(self, url: URL, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        factory = TLSTransportFactory() if url.scheme == "amqps" else TCPTransportFactory()
        reader, writer = await factory.create(url, **options)
        return cast(asyncio.StreamReader, _FrameReader(reader)), writer


class _FrameReader:
    """What the library uses of a stream reader; takes whole frames and hands them out piecemeal."""

    def __init__(self, stream: asyncio.StreamReader) -> None:
        self._stream = stream
        self._frame = b""
        self._position = 0

    def at_eof(self) -> bool:
        return self._position == len(self._frame) and self._stream.at_eof()

    async def readexactly(self, size: int) -> bytes:
        if self._position == len(self._frame):
            self._frame, self._position = await self._next(), 0
        start, self._position = self._position, self._position + size
        return self._frame[start : self._position]

    async def _next(self) -> bytes:
        head = await self._stream.readexactly(_HEAD)
        frame = head + await self._stream.readexactly(int.from_bytes(head[3:], "big") + 1)
        return harmless(frame) if head[0] == FRAME_HEADER else frame


def harmless(frame: bytes) -> bytes:
    """A content header frame, of the same length, that can be decoded."""
    try:
        pamqp.frame.unmarshal(frame)
    except Exception:  # whatever a decoder says about bytes of strangers, RecursionError included
        kept = frame[: _HEAD + _FIXED]
        return kept + bytes(len(frame) - len(kept) - 1) + FRAME_END_CHAR
    return frame
