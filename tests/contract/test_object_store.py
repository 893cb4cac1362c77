"""What every object store must do: the twin, and a real server."""

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import urllib3

from infra.objects.errors import ObjectChanged, ObjectMissing, ObjectStoreUnavailable, ObjectTooLarge
from infra.objects.files import FileObjects
from infra.objects.memory import MemoryObjects
from infra.objects.minio_objects import MinioObjects
from infra.objects.overlay import OverlayObjects
from infra.objects.settings import ObjectStoreSettings
from infra.objects.store import ObjectStore, fetch
from infra.objects.tickets import Ticket, TicketOffice
from infra.stack.record import Endpoints, free_ports

MIB = 1 << 20


@pytest.fixture(scope="session")
def s3(stack: Endpoints) -> ObjectStoreSettings:
    return ObjectStoreSettings(
        url=stack.s3.url,
        access_key=stack.s3.access_key,
        secret_key=stack.s3.secret_key,
        bucket=f"contract-{uuid4()}",
        part_bytes=5 * MIB,
    )


@pytest.fixture(scope="session")
def s3_objects(s3: ObjectStoreSettings) -> MinioObjects:
    store = MinioObjects(s3)
    store.make_bucket()
    store.make_bucket()  # a second time changes nothing
    return store


@pytest.fixture
def memory_objects() -> MemoryObjects:
    return MemoryObjects()


@pytest.fixture
def files_objects(tmp_path: Path) -> FileObjects:
    return FileObjects(tmp_path / "objects")


@pytest.fixture
def overlay_objects(tmp_path: Path) -> OverlayObjects:
    return OverlayObjects(FileObjects(tmp_path / "above"), MemoryObjects())


@pytest.fixture(params=["memory", "files", "overlay", pytest.param("s3", marks=pytest.mark.integration)])
def store(request: pytest.FixtureRequest) -> ObjectStore:
    found: ObjectStore = request.getfixturevalue(f"{request.param}_objects")
    return found


@pytest.fixture
def key() -> str:
    return f"things/{uuid4()}/1.safetensors"


def content(size: int) -> bytes:
    return bytes(itertools.islice(itertools.cycle(range(251)), size))


def put(store: ObjectStore, key: str, whole: bytes) -> None:
    chunks = (whole[at : at + 700_001] for at in range(0, len(whole), 700_001))
    store.put(key, chunks, len(whole))


def read(store: ObjectStore, key: str, span: range | None = None, etag: str | None = None) -> bytes:
    with store.read(key, span, expected_etag=etag) as chunks:
        return b"".join(chunks)


@pytest.mark.parametrize("size", [0, 1, 5 * MIB, 11 * MIB + 7])
def test_what_was_put_is_read_whole_whatever_the_number_of_parts(
    store: ObjectStore, key: str, size: int
) -> None:
    put(store, key, content(size))
    assert read(store, key) == content(size)
    assert store.stat(key).size == size


@pytest.mark.parametrize(
    "span", [range(1), range(999, 1000), range(10, 500), range(900, 2000), range(1000, 1001), range(5, 5)]
)
def test_a_range_is_read_like_a_slice(store: ObjectStore, key: str, span: range) -> None:
    put(store, key, content(1000))
    assert read(store, key, span) == content(1000)[span.start : span.stop]


def test_an_object_is_the_same_while_its_etag_is(store: ObjectStore, key: str) -> None:
    put(store, key, b"first")
    etag = store.stat(key).etag
    assert read(store, key, range(2), etag) == b"fi"
    put(store, key, b"other")
    for span in (None, range(2)):
        with pytest.raises(ObjectChanged):
            read(store, key, span, etag)


def test_the_etag_of_an_upload_in_parts_stays_the_same(store: ObjectStore, key: str) -> None:
    put(store, key, content(6 * MIB))
    etag = store.stat(key).etag
    assert len(read(store, key, range(MIB), etag)) == MIB
    assert len(read(store, key, None, etag)) == 6 * MIB


def test_a_missing_object_is_missing_in_every_way(store: ObjectStore, key: str) -> None:
    with pytest.raises(ObjectMissing):
        store.stat(key)
    for span in (None, range(5)):
        with pytest.raises(ObjectMissing, match=key):
            read(store, key, span)


def test_deleting_makes_missing_and_may_be_repeated(store: ObjectStore, key: str) -> None:
    put(store, key, b"here")
    store.delete(key)
    store.delete(key)
    with pytest.raises(ObjectMissing):
        store.stat(key)


def test_the_keys_below_a_folder_are_listed(store: ObjectStore) -> None:
    folder = f"rounds/{uuid4()}/"
    keys = [f"{folder}{name}" for name in ("epoch-1/shard-0", "epoch-1/shard-1", "plan.json")]
    for each in keys:
        put(store, each, b"x")
    assert sorted(store.keys(folder)) == keys
    assert list(store.keys(f"rounds/{uuid4()}/")) == []


@pytest.mark.parametrize("announced", [3, 5, 6 * MIB])
def test_an_upload_of_another_size_than_announced_stores_nothing(
    store: ObjectStore, key: str, announced: int
) -> None:
    with pytest.raises(ValueError, match="announced"):
        store.put(key, [b"ab", b"cd"], announced)
    with pytest.raises(ObjectMissing):
        store.stat(key)


def test_an_upload_whose_source_fails_stores_nothing(store: ObjectStore, key: str) -> None:
    def failing() -> Iterator[bytes]:
        yield content(6 * MIB)
        raise ObjectMissing("its source")

    with pytest.raises(ObjectMissing, match="its source"):
        store.put(key, failing(), 12 * MIB)
    with pytest.raises(ObjectMissing, match=key):
        store.stat(key)


def test_a_small_object_is_fetched_only_if_it_is_small(store: ObjectStore, key: str) -> None:
    put(store, key, content(100))
    assert fetch(store, key, limit=100) == content(100)
    with pytest.raises(ObjectTooLarge):
        fetch(store, key, limit=99)


def test_a_reader_may_stop_in_the_middle(store: ObjectStore, key: str) -> None:
    put(store, key, content(3 * MIB))
    with store.read(key) as chunks:
        first = next(iter(chunks))
    assert content(3 * MIB).startswith(first)
    assert read(store, key, range(4)) == content(4)


def test_a_store_that_does_not_answer_is_unavailable(key: str) -> None:
    (port,) = free_ports(1)
    nowhere = ObjectStoreSettings(
        url=f"http://127.0.0.1:{port}", access_key="a", secret_key="b" * 8, attempts=1, connect_timeout_s=1
    )
    for attempt in (lambda s: s.stat(key), lambda s: read(s, key), lambda s: put(s, key, b"x")):
        with pytest.raises(ObjectStoreUnavailable):
            attempt(MinioObjects(nowhere))


@pytest.mark.integration
def test_wrong_credentials_and_a_missing_bucket_are_faults_and_not_missing_objects(
    s3: ObjectStoreSettings, key: str
) -> None:
    for change in ({"access_key": "stranger"}, {"bucket": "no-such-bucket"}):
        store = MinioObjects(s3.model_copy(update=change))
        with pytest.raises(ObjectStoreUnavailable):
            put(store, key, b"x")
        with pytest.raises(ObjectStoreUnavailable):
            read(store, key)


def used(ticket: Ticket, body: bytes | None = None, *, method: str | None = None, swap: str = "") -> int:
    """The status of an attempt with this ticket; its key, which comes last in the path, may be swapped."""
    url = ticket.url.get_secret_value()
    path, query = url.split("?")
    if swap:
        path = path.rsplit("/", 1)[0] + "/" + swap
    headers = {name: value for name, value in ticket.headers.items() if name != "content-length"}
    with urllib3.PoolManager(retries=False) as http:
        return http.request(method or ticket.method, f"{path}?{query}", body=body, headers=headers).status


@pytest.fixture
def now() -> datetime:
    return datetime.now(UTC)


@pytest.mark.integration
@pytest.mark.parametrize("write_once", [False, True])
def test_a_ticket_lets_in_the_one_upload_it_was_made_for(
    s3: ObjectStoreSettings, s3_objects: MinioObjects, key: str, now: datetime, write_once: bool
) -> None:
    ticket = TicketOffice(s3.model_copy(update={"write_once": write_once})).upload(key, 10, now, 60)
    assert used(ticket, content(10)) == 200
    assert read(s3_objects, key) == content(10)


@pytest.mark.integration
@pytest.mark.parametrize("size", [9, 10_000])
def test_a_ticket_without_a_size_lets_in_one_of_any(
    s3: ObjectStoreSettings, s3_objects: MinioObjects, key: str, now: datetime, size: int
) -> None:
    assert used(TicketOffice(s3).upload(key, None, now, 60), content(size)) == 200
    assert read(s3_objects, key) == content(size)


@pytest.mark.integration
def test_an_upload_ticket_is_good_for_nothing_else(
    s3: ObjectStoreSettings, s3_objects: MinioObjects, key: str, now: datetime
) -> None:
    office = TicketOffice(s3)
    ticket, expired = office.upload(key, 10, now, 60), office.upload(key, 10, now - timedelta(seconds=90), 60)
    refused = {
        "longer": used(ticket, content(11)),
        "shorter": used(ticket, content(9)),
        "another key": used(ticket, content(10), swap="2.safetensors"),
        "reading": used(ticket, method="GET"),
        "deleting": used(ticket, method="DELETE"),
        "too late": used(expired, content(10)),
    }
    assert {name: status for name, status in refused.items() if status not in {400, 403}} == {}
    assert list(s3_objects.keys(key.rsplit("/", 1)[0] + "/")) == []


@pytest.mark.integration
def test_a_signed_condition_must_be_sent(s3: ObjectStoreSettings, key: str, now: datetime) -> None:
    ticket = TicketOffice(s3.model_copy(update={"write_once": True})).upload(key, 10, now, 60)
    assert used(ticket.model_copy(update={"headers": {}}), content(10)) == 403


@pytest.mark.integration
def test_a_download_ticket_reads_one_object_and_changes_nothing(
    s3: ObjectStoreSettings, s3_objects: MinioObjects, key: str, now: datetime
) -> None:
    put(s3_objects, key, content(10))
    ticket = TicketOffice(s3).download(key, now, 60)
    assert used(ticket) == 200
    assert used(ticket, content(10), method="PUT") == 403
    assert used(ticket, method="DELETE") == 403
    assert used(ticket, swap="2.safetensors") == 403
    assert read(s3_objects, key) == content(10)


def test_no_chunk_is_larger_than_was_asked_for(store: ObjectStore, key: str) -> None:
    store.put(key, [bytes(3_000_000)], 3_000_000)
    with store.read(key, range(1, 2_500_001), chunk=1 << 16) as content:
        sizes = [len(chunk) for chunk in content]
    assert sum(sizes) == 2_500_000
    assert max(sizes) <= 1 << 16


def test_bytes_come_into_a_buffer_where_the_store_offers_it(store: ObjectStore, key: str) -> None:
    whole = content(2_500_000)
    store.put(key, [whole], len(whole))
    buffer = bytearray(1_000_000)
    found = bytearray()
    with store.read(key, range(7, 3_000_000)) as opened:
        if opened.into is None:
            pytest.skip("it does not")  # an offer of the stores for which it spares a copy; none must make it
        while taken := opened.into(memoryview(buffer)):
            found += buffer[:taken]
            assert taken == len(buffer) or len(found) == opened.size
    assert found == whole[7:]
