"""An aggregator worker that kills itself at a point: python -m tests.integration.aggregator.dying POINT"""

import asyncio
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from http.client import HTTPConnection
from itertools import count
from typing import NoReturn
from unittest.mock import patch
from urllib.parse import urlsplit

from infra.broker.connection import Connection
from infra.broker.outgoing import Outgoing
from infra.broker.publisher import Publisher
from infra.objects.minio_objects import MinioObjects
from infra.objects.settings import ObjectStoreSettings
from infra.objects.store import CHUNK, Content
from infra.objects.tickets import TicketOffice
from infra.process import run_until_stopped, settings_from_environment
from infra.streams import Chunk
from services.aggregator import app
from services.aggregator.settings import Settings


class Moment(StrEnum):
    READING = "reading"  # half of an object has been used
    READING_A_RANGE = "reading-a-range"
    PUTTING = "putting"  # half of the bytes announced are on the wire
    BEFORE = "before"  # the report is ready, and nobody has it
    AFTER = "after"  # the report is confirmed, its command is not acknowledged


@dataclass(frozen=True)
class Point:
    """`what` is a part of an object's key, or a report's type."""

    moment: Moment
    what: str
    nth: int = 1

    def __str__(self) -> str:
        return f"{self.moment}:{self.what}:{self.nth}"

    @staticmethod
    def named(name: str) -> "Point":
        moment, what, nth = name.split(":")
        return Point(Moment(moment), what, int(nth))


class Fuse:
    """Several threads may ask."""

    def __init__(self, point: Point) -> None:
        self._point = point
        self._times = count(1)

    def has_burnt(self, moment: Moment, what: str) -> bool:
        is_such = moment is self._point.moment and self._point.what in what
        return is_such and next(self._times) == self._point.nth


class DyingObjects(MinioObjects):
    def __init__(self, fuse: Fuse, settings: ObjectStoreSettings) -> None:
        super().__init__(settings)
        self._fuse = fuse
        self._office = TicketOffice(settings)

    @contextmanager
    def read(
        self, key: str, span: range | None = None, *, expected_etag: str | None = None, chunk: int = CHUNK
    ) -> Iterator[Content]:
        moment = Moment.READING if span is None else Moment.READING_A_RANGE
        with super().read(key, span, expected_etag=expected_etag, chunk=chunk) as content:
            is_the_last = self._fuse.has_burnt(moment, key)
            yield replace(content, chunks=_half(content)) if is_the_last else content

    def put(self, key: str, chunks: Iterable[Chunk], size: int) -> None:
        if self._fuse.has_burnt(Moment.PUTTING, key):
            self._put_half(key, b"".join(chunks))
        super().put(key, chunks, size)

    def _put_half(self, key: str, body: bytes) -> NoReturn:
        """By hand: the SDK sends what fits into one part at once."""
        ticket = self._office.upload(key, len(body), datetime.now(UTC), 60)
        url = urlsplit(ticket.url.get_secret_value())
        line = HTTPConnection(url.netloc)
        line.putrequest("PUT", f"{url.path}?{url.query}")
        for header in ticket.headers.items():
            line.putheader(*header)
        line.endheaders(body[: len(body) // 2])
        _die()


class DyingPublisher(Publisher):
    def __init__(self, fuse: Fuse, connection: Connection) -> None:
        super().__init__(connection)
        self._fuse = fuse

    async def publish(self, message: Outgoing) -> None:
        if self._fuse.has_burnt(Moment.BEFORE, message.type):
            _die()
        await super().publish(message)
        if self._fuse.has_burnt(Moment.AFTER, message.type):
            _die()


async def run(fuse: Fuse, settings: Settings, stop: asyncio.Event) -> None:
    """The worker as it is, with what it would make for itself exchanged."""
    with (
        patch.object(app, "MinioObjects", partial(DyingObjects, fuse)),
        patch.object(app, "Publisher", partial(DyingPublisher, fuse)),
    ):
        await app.run(settings, stop)


def main() -> None:
    fuse = Fuse(Point.named(sys.argv[1]))
    settings = settings_from_environment(Settings)
    run_until_stopped(partial(run, fuse, settings), settings.log_level)


def _half(content: Content) -> Iterator[bytes]:
    left = content.size // 2
    for chunk in content:
        yield chunk[:left]
        left -= len(chunk)
        if left <= 0:
            _die()


def _die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("nobody survives that")


if __name__ == "__main__":
    main()
