"""A store that misbehaves, on a real socket."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from infra.objects.errors import ObjectChanged, ObjectStoreUnavailable
from infra.objects.minio_objects import MinioObjects
from infra.objects.settings import ObjectStoreSettings


@contextmanager
def a_store_that_answers(status: int, length: int, body: bytes) -> Iterator[MinioObjects]:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(length))
            self.send_header("ETag", '"now"')
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield MinioObjects(
            ObjectStoreSettings(
                url=f"http://127.0.0.1:{server.server_port}",
                access_key="key",
                secret_key="very-secret",
                read_timeout_s=0.2,
                attempts=1,
            )
        )
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def read(store: MinioObjects, span: range | None = None, etag: str | None = None) -> bytes:
    with store.read("some/key", span, expected_etag=etag) as chunks:
        return b"".join(chunks)


@pytest.mark.parametrize("status", [500, 503, 403, 301])
def test_an_answer_other_than_the_object_is_a_fault(status: int) -> None:
    with a_store_that_answers(status, 4, b"oops") as store, pytest.raises(ObjectStoreUnavailable):
        read(store)


def test_a_body_that_stops_in_the_middle_is_a_fault_and_not_a_short_object() -> None:
    with a_store_that_answers(200, 100, b"only this") as store, pytest.raises(ObjectStoreUnavailable):
        read(store)


def test_more_than_the_range_that_was_asked_for_is_a_fault() -> None:
    with (
        a_store_that_answers(200, 9, b"the whole") as store,
        pytest.raises(ObjectStoreUnavailable, match="9 bytes"),
    ):
        read(store, range(4))


@pytest.mark.parametrize("status", [200, 206])
def test_a_range_may_be_answered_with_either_status(status: int) -> None:
    with a_store_that_answers(status, 4, b"part") as store:
        assert read(store, range(4), "now") == b"part"


def test_a_store_that_ignores_the_condition_is_seen_through() -> None:
    with a_store_that_answers(200, 4, b"part") as store, pytest.raises(ObjectChanged):
        read(store, range(4), "then")
