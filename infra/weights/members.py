"""Where the members of an archive that torch wrote lie in the file; anything compressed is refused."""

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infra.weights.layout import MAX_TENSORS
from infra.weights.refusals import UnsupportedArchive

Bytes = NDArray[np.uint8]

_MAX_MEMBERS = MAX_TENSORS + 100
_LOCAL_HEADER = 30
_ENCRYPTED = 0x1
_PICKLE = "/data.pkl"


def read_members(path: Path) -> dict[str, Bytes]:
    """Name below the archive's one folder to content, as views of the mapped file.

    What is announced never exceeds what the file has, so nothing can be inflated.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError):  # all that zipfile says of a bad file
        raise UnsupportedArchive("it is not a whole zip file") from None
    file = np.memmap(path, dtype=np.uint8, mode="r")
    _check_entries(entries, len(file))
    root = _root(entries)
    return {entry.filename.removeprefix(root): _content(entry, file) for entry in entries}


def _check_entries(entries: list[zipfile.ZipInfo], file_size: int) -> None:
    if len(entries) > _MAX_MEMBERS or len({entry.filename for entry in entries}) != len(entries):
        raise UnsupportedArchive(f"it has repeated members, or more than {_MAX_MEMBERS}")
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & _ENCRYPTED:
            raise UnsupportedArchive(f"its member {entry.filename[:60]!r} is compressed or encrypted")
        if entry.file_size != entry.compress_size:
            raise UnsupportedArchive(f"its member {entry.filename[:60]!r} has two different sizes")
    if sum(entry.file_size for entry in entries) > file_size:
        raise UnsupportedArchive("its members overlap")


def _root(entries: list[zipfile.ZipInfo]) -> str:
    pickles = [entry.filename for entry in entries if entry.filename.endswith(_PICKLE)]
    if len(pickles) != 1:
        raise UnsupportedArchive("it is a zip file without the one data.pkl that torch.save writes")
    root = pickles[0].removesuffix("data.pkl")
    if not all(entry.filename.startswith(root) for entry in entries):
        raise UnsupportedArchive("it has members outside its folder")
    return root


def _content(entry: zipfile.ZipInfo, file: Bytes) -> Bytes:
    """The local header repeats name and extra field, with lengths of its own."""
    head = file[max(entry.header_offset, 0) :][:_LOCAL_HEADER].tobytes()
    lengths = int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
    begin = entry.header_offset + _LOCAL_HEADER + lengths
    if not head.startswith(b"PK\x03\x04") or begin + entry.file_size > len(file):
        raise UnsupportedArchive(f"its member {entry.filename[:60]!r} is not where the directory says")
    return file[begin : begin + entry.file_size]
