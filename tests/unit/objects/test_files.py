"""What stores over files and over other stores do beyond the contract."""

import os
from pathlib import Path

import pytest

from infra.objects.errors import ObjectChanged, ObjectMissing, ObjectStoreUnavailable
from infra.objects.files import FileObjects
from infra.objects.memory import MemoryObjects
from infra.objects.overlay import OverlayObjects
from infra.objects.store import ObjectStore, fetch


def read(store: ObjectStore, key: str, etag: str | None = None) -> bytes:
    with store.read(key, expected_etag=etag) as chunks:
        return b"".join(chunks)


def test_a_file_anywhere_may_be_given_a_key_and_is_only_read(tmp_path: Path) -> None:
    mine = tmp_path / "mine.bin"
    mine.write_bytes(b"as it was")
    store = FileObjects(tmp_path / "objects", {"updates/1": mine})
    assert read(store, "updates/1") == b"as it was"
    assert list(store.keys("updates/")) == ["updates/1"]
    with pytest.raises(ValueError, match="given to be read"):
        store.put("updates/1", [b"else"], 4)
    assert mine.read_bytes() == b"as it was"


def test_a_file_that_was_written_to_is_another_object(tmp_path: Path) -> None:
    mine = tmp_path / "mine.bin"
    mine.write_bytes(b"first")
    store = FileObjects(tmp_path, {"updates/1": mine})
    etag = store.stat("updates/1").etag
    mine.write_bytes(b"other")
    os.utime(mine, ns=(1, 1))
    with pytest.raises(ObjectChanged):
        read(store, "updates/1", etag)


def test_a_file_that_becomes_shorter_while_it_is_read_just_ends(tmp_path: Path) -> None:
    mine = tmp_path / "mine.bin"
    mine.write_bytes(bytes(3 << 20))
    with FileObjects(tmp_path, {"updates/1": mine}).read("updates/1") as content:
        first = next(content.chunks)
        os.truncate(mine, len(first) + 5)
        assert [len(chunk) for chunk in content] == [5, 0]


@pytest.mark.parametrize("key", ["../outside", "/etc/passwd", "a/../../b", ".incoming/x"])
def test_no_key_leads_out_of_the_folder(tmp_path: Path, key: str) -> None:
    store = FileObjects(tmp_path)
    with pytest.raises(ValueError, match="is no key"):
        store.put(key, [b"x"], 1)


def test_a_folder_that_cannot_be_written_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "objects").write_text("no folder")
    with pytest.raises(ObjectStoreUnavailable):
        FileObjects(tmp_path / "objects").put("a/b", [b"x"], 1)


def test_what_failed_to_arrive_leaves_nothing_behind(tmp_path: Path) -> None:
    store = FileObjects(tmp_path)
    with pytest.raises(ValueError, match="announced"):
        store.put("a/b", [b"x"], 2)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_lies_below_is_read_and_never_changed(tmp_path: Path) -> None:
    below = MemoryObjects()
    below.put("model", [b"old"], 3)
    store = OverlayObjects(FileObjects(tmp_path), below)
    assert fetch(store, "model", 10) == b"old"
    store.put("model", [b"new"], 3)
    assert (fetch(store, "model", 10), fetch(below, "model", 10)) == (b"new", b"old")
    store.delete("model")
    assert fetch(store, "model", 10) == b"old"
    assert list(store.keys("")) == ["model"]
    with pytest.raises(ObjectMissing):
        store.stat("another")
