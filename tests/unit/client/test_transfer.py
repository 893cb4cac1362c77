import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from agents.client.training import File
from agents.client.transfer import HttpTransfer, NotTheFile, TicketExpired, TransferRefused
from tests.unit.client.builders import CONTROL_BYTES, MODEL_BYTES, a_ref, a_state


class Store(ThreadingHTTPServer):
    """Answers with the scripted statuses, then with 200.  A status of 0 is a broken connection."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.statuses: list[int] = []
        self.content = MODEL_BYTES
        self.handed_in: list[tuple[dict[str, str], bytes]] = []
        self.url = f"http://127.0.0.1:{self.server_port}/key?X-Amz-Signature=secret"


class _Answer(BaseHTTPRequestHandler):
    server: Store

    def do_GET(self) -> None:
        if (status := self._status()) == 0:
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.server.content)))
            self.end_headers()
            self.wfile.write(self.server.content[:10])
            return
        self.send_response(status)
        self.end_headers()
        self.wfile.write(self.server.content)

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = self._status()
        if status == 200:
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.server.handed_in.append((headers, body))
        if status:
            self.send_response(status)
            self.end_headers()

    def _status(self) -> int:
        return self.server.statuses.pop(0) if self.server.statuses else 200

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the name it has there
        pass


@pytest.fixture
def store() -> Iterator[Store]:
    with Store() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
async def transfer() -> AsyncIterator[HttpTransfer]:
    transfer = HttpTransfer(first_pause_s=0.01)
    yield transfer
    await transfer.close()


@pytest.mark.parametrize("faults", [[], [503], [500, 502, 0, 429], [0, 0]])
async def test_a_model_is_fetched_however_often_the_store_fails(
    store: Store, transfer: HttpTransfer, tmp_path: Path, faults: list[int]
) -> None:
    store.statuses = faults
    await transfer.download(store.url, a_ref(), tmp_path / "model.safetensors")
    assert (tmp_path / "model.safetensors").read_bytes() == MODEL_BYTES


@pytest.mark.parametrize("faults", [[], [503], [500, 0, 429]])
async def test_an_update_is_handed_in_whole_with_its_length_and_the_tickets_headers(
    store: Store, transfer: HttpTransfer, tmp_path: Path, faults: list[int]
) -> None:
    store.statuses = faults
    (tmp_path / "update").write_bytes(content := b"u" * 3_000_000)
    ticket = {"If-None-Match": "*", "Content-Length": "1"}
    await transfer.upload(store.url, ticket, tmp_path / "update")
    headers, body = store.handed_in[0]
    assert body == content
    assert (headers["if-none-match"], headers["content-length"]) == ("*", "3000000")
    assert "transfer-encoding" not in headers


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_an_expired_ticket_is_told_apart(
    store: Store, transfer: HttpTransfer, tmp_path: Path, status: int
) -> None:
    store.statuses = [status, status]
    (tmp_path / "update").write_bytes(b"u")
    with pytest.raises(TicketExpired):
        await transfer.upload(store.url, {}, tmp_path / "update")
    with pytest.raises(TicketExpired):
        await transfer.download(store.url, a_ref(), tmp_path / "model.safetensors")


async def test_an_update_that_is_there_already_is_fine(
    store: Store, transfer: HttpTransfer, tmp_path: Path
) -> None:
    store.statuses = [412]
    (tmp_path / "update").write_bytes(b"u")
    await transfer.upload(store.url, {}, tmp_path / "update")


async def test_any_other_no_is_final(store: Store, transfer: HttpTransfer, tmp_path: Path) -> None:
    store.statuses = [404]
    with pytest.raises(TransferRefused, match="404"):
        await transfer.download(store.url, a_ref(), tmp_path / "model.safetensors")


@pytest.mark.parametrize("content", [MODEL_BYTES[:-1] + b"x", MODEL_BYTES + b"x", CONTROL_BYTES + b"x"])
@pytest.mark.parametrize("file", [a_ref(), a_state()])
async def test_what_is_not_the_file_never_gets_its_name(
    store: Store, transfer: HttpTransfer, tmp_path: Path, content: bytes, file: File
) -> None:
    store.content = content.ljust(file.size, b"x")
    with pytest.raises(NotTheFile, match=file.key):
        await transfer.download(store.url, file, tmp_path / "file.safetensors")
    assert not (tmp_path / "file.safetensors").exists()


async def test_a_part_of_the_state_is_fetched_as_a_model_is(
    store: Store, transfer: HttpTransfer, tmp_path: Path
) -> None:
    store.content = CONTROL_BYTES
    store.statuses = [503, 0]
    await transfer.download(store.url, a_state(), tmp_path / "state.safetensors")
    assert (tmp_path / "state.safetensors").read_bytes() == CONTROL_BYTES


async def test_a_store_that_is_away_is_asked_until_the_caller_gives_up(
    transfer: HttpTransfer, tmp_path: Path
) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await transfer.download("http://127.0.0.1:9/x", a_ref(), tmp_path / "model.safetensors")


async def test_no_log_line_contains_a_url(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    transfer = HttpTransfer(first_pause_s=0.01)
    store.statuses = [503, 0]
    await transfer.download(store.url, a_ref(), tmp_path / "model.safetensors")
    await transfer.close()
    assert caplog.records
    assert not [r for r in caplog.records if "secret" in f"{r.getMessage()} {r.__dict__}"]
