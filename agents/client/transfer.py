"""Fetches files and hands in updates over HTTP(S), patiently.  URLs are secrets: none is ever logged."""

import asyncio
import hashlib
import logging
import os
import random
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import ClassVar, Protocol

import httpx

from agents.client.training import File
from schemas.refusal import Refusal

log = logging.getLogger(__name__)

_CHUNK = 2**20
_LONGEST_PAUSE_S = 15.0
_EXPIRED = frozenset({400, 401, 403})
_ALREADY_THERE = 412
_TIMEOUT = httpx.Timeout(30.0, connect=10.0)


class TicketExpired(Refusal):
    code: ClassVar[str] = "ticket_expired"

    def __init__(self, status: int) -> None:
        super().__init__(f"the store answered {status}: the ticket is not valid any more")


class TransferRefused(Refusal):
    code: ClassVar[str] = "transfer_refused"

    def __init__(self, what: str, status: int) -> None:
        super().__init__(f"the store answered {status} when the {what}")


class NotTheFile(Refusal):
    code: ClassVar[str] = "not_the_file"

    def __init__(self, file: File) -> None:
        self.file = file
        super().__init__(f"what the store sent is not {file.key} with sha256 {file.sha256}")


class Transfer(Protocol):
    """Both try until they are cancelled, unless the answer is a final no."""

    async def download(self, url: str, file: File, destination: Path) -> None:
        """The file is at `destination`, whole and with the right sha256, or there is nothing."""
        ...

    async def upload(self, url: str, headers: Mapping[str, str], source: Path) -> None: ...

    async def close(self) -> None: ...


class MemoryTransfer:
    """The twin: a store with a few files, which remembers what it was handed."""

    def __init__(self, *contents: bytes) -> None:
        self._contents = {hashlib.sha256(content).hexdigest(): content for content in contents}
        self.downloads: list[str] = []  # URLs
        self.handed_in: list[bytes] = []

    async def download(self, url: str, file: File, destination: Path) -> None:
        if file.sha256 not in self._contents:
            raise NotTheFile(file)
        part = destination.with_suffix(".part")
        await asyncio.to_thread(part.write_bytes, self._contents[file.sha256])
        part.replace(destination)
        self.downloads.append(url)

    async def upload(self, url: str, headers: Mapping[str, str], source: Path) -> None:
        self.handed_in.append(await asyncio.to_thread(source.read_bytes))

    async def close(self) -> None:
        pass


class HttpTransfer:
    def __init__(self, client: httpx.AsyncClient | None = None, first_pause_s: float = 0.25) -> None:
        for name in ("httpx", "httpcore"):  # they log the URLs they are given
            logging.getLogger(name).setLevel(logging.WARNING)
        self._client = client or httpx.AsyncClient(timeout=_TIMEOUT)
        self._first_pause_s = first_pause_s

    async def download(self, url: str, file: File, destination: Path) -> None:
        part = destination.with_suffix(".part")
        pause_s = self._first_pause_s
        while not await self._fetched(url, file, part):
            pause_s = await _pause(pause_s)
        part.replace(destination)

    async def upload(self, url: str, headers: Mapping[str, str], source: Path) -> None:
        pause_s = self._first_pause_s
        while not await self._handed_in(url, headers, source):
            pause_s = await _pause(pause_s)

    async def close(self) -> None:
        await self._client.aclose()

    async def _fetched(self, url: str, expected: File, part: Path) -> bool:
        """False if it may work when tried again."""
        digest, size = hashlib.sha256(), 0
        try:
            async with self._client.stream("GET", url, headers={"accept-encoding": "identity"}) as response:
                if not _is_good(response.status_code, "file was asked for"):
                    return False
                with part.open("wb") as file:
                    async for chunk in response.aiter_raw(_CHUNK):
                        size += len(chunk)
                        if size > expected.size:
                            raise NotTheFile(expected)
                        digest.update(chunk)
                        file.write(chunk)
        except httpx.TransportError as error:
            return _broke("download", error)
        if size == expected.size and digest.hexdigest() != expected.sha256:
            raise NotTheFile(expected)
        return size == expected.size

    async def _handed_in(self, url: str, headers: Mapping[str, str], source: Path) -> bool:
        size = await asyncio.to_thread(os.path.getsize, source)
        sent = {name.lower(): value for name, value in headers.items()} | {"content-length": str(size)}
        try:
            response = await self._client.put(url, content=_chunks(source), headers=sent)
        except httpx.TransportError as error:
            return _broke("upload", error)
        if response.status_code == _ALREADY_THERE:
            return True  # write-once, and only this task's bytes may be there
        return _is_good(response.status_code, "update was handed in")


def _is_good(status: int, what: str) -> bool:
    """False if it may be better when asked again."""
    if status in _EXPIRED:
        raise TicketExpired(status)
    if 200 <= status < 300:
        return True
    if status >= 500 or status in (408, 429):
        log.warning("store was not ready", extra={"status": status})
        return False
    raise TransferRefused(what, status)


def _broke(what: str, error: httpx.TransportError) -> bool:
    log.warning("transfer was interrupted", extra={"transfer": what, "fault": type(error).__name__})
    return False


async def _pause(pause_s: float) -> float:
    """Sleep about that long; how long to sleep next time."""
    await asyncio.sleep(pause_s * random.uniform(0.75, 1.25))  # noqa: S311 -- spreads the sites, keeps no secret
    return min(2 * pause_s, _LONGEST_PAUSE_S)


async def _chunks(source: Path) -> AsyncIterator[bytes]:
    with source.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
