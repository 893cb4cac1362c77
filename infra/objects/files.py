"""The object store in a folder: for work over files, with nothing else running."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from uuid import uuid4

from infra.objects.errors import ObjectChanged, ObjectMissing, ObjectStoreUnavailable
from infra.objects.store import CHUNK, Content, ObjectStat
from infra.streams import Chunk

_INCOMING = ".incoming"  # what is being written; no key begins so
_MISSING = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


class FileObjects:
    """Objects are files below `folder`, and files anywhere that have been given keys: those are only read.

    A file is read where it lies, a chunk at a time; its etag changes with every write to it.
    """

    def __init__(self, folder: Path, given: Mapping[str, Path] | None = None) -> None:
        self._folder = folder
        self._given = dict(given or {})

    def path(self, key: str) -> Path:
        """Where the object lies, or would."""
        if key in self._given:
            return self._given[key]
        parts = PurePosixPath(key).parts
        if not parts or parts[0] == "/" or ".." in parts or _INCOMING in parts:
            raise ValueError(f"{key[:100]!r} is no key")
        return self._folder.joinpath(*parts)

    def put(self, key: str, chunks: Iterable[Chunk], size: int) -> None:
        if key in self._given:
            raise ValueError(f"{key} was given to be read")
        path = self.path(key)
        try:
            self._put(path, key, chunks, size)
        except OSError as error:
            raise ObjectStoreUnavailable(f"{key}: {error}") from error

    @contextmanager
    def read(
        self, key: str, span: range | None = None, *, expected_etag: str | None = None, chunk: int = CHUNK
    ) -> Iterator[Content]:
        with _faults(key):
            file = os.open(self.path(key), os.O_RDONLY | os.O_CLOEXEC)
        try:
            found = _stat(os.fstat(file))
            if expected_etag not in {None, found.etag}:
                raise ObjectChanged(key)
            part = range(found.size)[span.start : span.stop] if span is not None else range(found.size)
            yield Content(len(part), found.etag, _chunks(key, file, part, chunk), _Filler(key, file, part))
        finally:
            os.close(file)

    def stat(self, key: str) -> ObjectStat:
        with _faults(key):
            return _stat(self.path(key).stat())

    def delete(self, key: str) -> None:
        with _faults(key):
            self.path(key).unlink(missing_ok=True)

    def keys(self, prefix: str) -> Iterator[str]:
        below = (path for path in (self._folder / prefix).rglob("*") if path.is_file())
        stored = (str(path.relative_to(self._folder)) for path in below)
        given = (key for key in self._given if key.startswith(prefix))
        return iter(sorted({*(key for key in stored if not key.startswith(_INCOMING)), *given}))

    def _put(self, path: Path, key: str, chunks: Iterable[Chunk], size: int) -> None:
        """Under another name until all of it is there."""
        incoming = self._folder / _INCOMING
        incoming.mkdir(parents=True, exist_ok=True)
        name = incoming / uuid4().hex
        try:
            with name.open("xb") as writer:
                written = sum(writer.write(chunk) for chunk in chunks)
            if written != size:
                raise ValueError(f"{written} bytes were given for {key}, not the {size} announced")
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(name, path)
        except BaseException:  # whatever the source raises, and a Ctrl-C: nothing of it stays
            name.unlink(missing_ok=True)
            raise


class _Filler:
    def __init__(self, key: str, file: int, part: range) -> None:
        self._key, self._file, self._left = key, file, part

    def __call__(self, buffer: memoryview) -> int:
        filled = 0
        while filled < len(buffer) and self._left:
            room = buffer[filled : filled + len(self._left)]
            with _faults(self._key):
                count = os.preadv(self._file, [room], self._left.start)
            if not count:
                break
            self._left = self._left[count:]
            filled += count
        return filled


def _stat(found: os.stat_result) -> ObjectStat:
    return ObjectStat(found.st_size, f"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}")


def _chunks(key: str, file: int, part: range, most: int) -> Iterator[bytes]:
    """Ends early if the file has become shorter."""
    for at in range(part.start, part.stop, most):
        with _faults(key):
            chunk = os.pread(file, min(most, part.stop - at), at)
        yield chunk


@contextmanager
def _faults(key: str) -> Iterator[None]:
    try:
        yield
    except _MISSING as error:
        raise ObjectMissing(key) from error
    except OSError as error:
        raise ObjectStoreUnavailable(f"{key}: {error}") from error
