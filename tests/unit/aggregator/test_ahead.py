"""Threads beside a stream: whatever happens, what they raise is heard and none of them is left."""

import hashlib
import threading
from collections.abc import Iterator

import pytest

from services.aggregator.inspecting.ahead import ahead, aside

CHUNKS = [bytes([number]) * 300_000 for number in range(50)]
SIZE = 300_000 * 50


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


class Faulty(Exception):
    pass


def breaking_after(count: int) -> Iterator[bytes]:
    yield from CHUNKS[:count]
    raise Faulty


def test_chunks_come_in_their_order() -> None:
    with ahead(CHUNKS, SIZE) as chunks:
        assert list(chunks) == CHUNKS
        assert list(chunks) == []


def test_an_empty_chunk_is_not_the_end() -> None:
    with ahead([b"a", b"", b"b"], SIZE) as chunks:
        assert list(chunks) == [b"a", b"", b"b"]


def test_for_a_few_bytes_no_thread_is_started() -> None:
    before = threading.active_count()
    with ahead([b"a", b"b"], 2) as chunks, aside(hashlib.sha256()) as file:
        assert list(file.watch(chunks)) == [b"a", b"b"]
        assert threading.active_count() == before
        assert file.hexdigest() == hashlib.sha256(b"ab").hexdigest()


def test_a_digest_aside_of_large_and_small_chunks_is_that_of_all() -> None:
    mixed = [CHUNKS[1], b"a", CHUNKS[2], CHUNKS[3], b"", b"b"]
    with aside(hashlib.sha256()) as file:
        assert list(file.watch(mixed)) == mixed
        assert file.hexdigest() == hashlib.sha256(b"".join(mixed)).hexdigest()


def test_only_a_few_chunks_are_read_early() -> None:
    read = 0

    def counting() -> Iterator[bytes]:
        nonlocal read
        for chunk in CHUNKS:
            read += 1
            yield chunk

    with ahead(counting(), SIZE) as chunks:
        next(chunks)
        next(chunks)
    assert 2 <= read <= 6


@pytest.mark.parametrize("count", [0, 1, 20])
def test_what_reading_raises_comes_after_the_chunks_before_it(count: int) -> None:
    with ahead(breaking_after(count), SIZE) as chunks:
        found = [next(chunks) for _ in range(count)]
        with pytest.raises(Faulty):
            next(chunks)
    assert found == CHUNKS[:count]


def test_a_consumer_that_gives_up_ends_the_reading() -> None:
    def give_up(chunks: Iterator[object]) -> None:
        next(chunks)
        raise Faulty

    with pytest.raises(Faulty), ahead(CHUNKS, SIZE) as chunks, aside(hashlib.sha256()) as file:
        give_up(file.watch(chunks))


def test_a_digest_aside_is_that_of_all_that_went_by() -> None:
    with aside(hashlib.sha256()) as file:
        assert list(file.watch(CHUNKS)) == CHUNKS
        assert file.hexdigest() == hashlib.sha256(b"".join(CHUNKS)).hexdigest()


def test_of_what_was_not_taken_nothing_is_hashed() -> None:
    with aside(hashlib.sha256()) as file:
        watched = file.watch(CHUNKS)
        next(watched), next(watched)
        assert file.hexdigest() == hashlib.sha256(CHUNKS[0] + CHUNKS[1]).hexdigest()


class Choking:
    """A digest that cannot be brought up to date."""

    def update(self, data: object, /) -> None:
        raise Faulty

    def hexdigest(self) -> str:
        raise AssertionError("asked for in spite of all")


def test_what_hashing_raises_is_heard_before_the_digest_is_told() -> None:
    with aside(Choking()) as file, pytest.raises(Faulty):
        list(file.watch(CHUNKS))
    with aside(Choking()) as file:
        list(file.watch(CHUNKS[:1]))
        with pytest.raises(Faulty):
            file.hexdigest()
