"""The object store behind the S3 protocol."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from urllib3.exceptions import HTTPError

from infra.objects.errors import ObjectChanged, ObjectMissing, ObjectStoreUnavailable
from infra.objects.settings import ObjectStoreSettings
from infra.objects.store import CHUNK, Content, ObjectStat
from infra.streams import Chunk, ChunkStream

_CONNECTIONS = 256  # that are kept for further requests
_NOTHING = Content(0, "", iter(()))
_RETRIED = (500, 502, 503, 504)


class MinioObjects:
    """One bucket.  An upload holds one part in memory, a download one chunk."""

    def __init__(self, settings: ObjectStoreSettings) -> None:
        url = urlsplit(settings.url)
        self._bucket = settings.bucket
        self._part_bytes = settings.part_bytes
        self._client = Minio(
            endpoint=url.netloc,
            access_key=settings.access_key,
            secret_key=settings.secret_key.get_secret_value(),
            secure=url.scheme == "https",
            region=settings.region,
            http_client=_pool(settings),
        )

    def make_bucket(self) -> None:
        """Make the bucket unless it is there."""
        with _faults(self._bucket):
            if not self._client.bucket_exists(self._bucket):
                self._client.make_bucket(self._bucket)

    def put(self, key: str, chunks: Iterable[Chunk], size: int) -> None:
        body = cast(BinaryIO, _Body(key, chunks, size))
        with _faults(key):
            self._client.put_object(
                self._bucket, key, body, size, part_size=self._part_bytes, num_parallel_uploads=1
            )

    @contextmanager
    def read(
        self, key: str, span: range | None = None, *, expected_etag: str | None = None, chunk: int = CHUNK
    ) -> Iterator[Content]:
        if span is not None and not span:
            yield _NOTHING
            return
        with _faults(key):
            response = self._get(key, span, expected_etag)
        if response is None:
            yield _NOTHING
            return
        try:
            length, etag = _checked(key, response, span, expected_etag)
            yield Content(length, etag, _stream(key, response, chunk))
        finally:
            response.close()
            response.release_conn()

    def stat(self, key: str) -> ObjectStat:
        with _faults(key):
            found = self._client.stat_object(self._bucket, key)
        return ObjectStat(found.size or 0, _bare(found.etag))

    def delete(self, key: str) -> None:
        with _faults(key):
            self._client.remove_object(self._bucket, key)

    def keys(self, prefix: str) -> Iterator[str]:
        with _faults(prefix):
            for found in self._client.list_objects(self._bucket, prefix, recursive=True):
                if found.object_name:
                    yield found.object_name

    def _get(
        self, key: str, span: range | None, expected_etag: str | None
    ) -> urllib3.BaseHTTPResponse | None:
        """Nothing if the range starts beyond the end."""
        headers: dict[str, str | list[str] | tuple[str]] = {}
        if expected_etag is not None:
            headers["If-Match"] = f'"{expected_etag}"'
        offset, length = (span.start, len(span)) if span else (0, 0)
        try:
            return self._client.get_object(self._bucket, key, offset, length, request_headers=headers)
        except (S3Error, InvalidResponseError) as error:
            if _answer(error)[1] == 416:
                return None
            raise


class _Body:
    """The chunks as the file that the SDK wants to read."""

    def __init__(self, key: str, chunks: Iterable[Chunk], size: int) -> None:
        self._key = key
        self._stream = ChunkStream(chunks)
        self._size = size

    def read(self, size: int) -> bytes:
        """The last bytes come out only if they are the last: an object of another size is never stored."""
        piece = bytes(self._stream.take(size))
        ended = self._stream.taken >= self._size
        if len(piece) < size or (ended and self._stream.take(1)):
            raise ValueError(f"the chunks for {self._key} have not the {self._size} bytes announced")
        return piece


def _pool(settings: ObjectStoreSettings) -> urllib3.PoolManager:
    return urllib3.PoolManager(
        maxsize=_CONNECTIONS,
        timeout=urllib3.Timeout(connect=settings.connect_timeout_s, read=settings.read_timeout_s),
        retries=urllib3.Retry(total=settings.attempts - 1, backoff_factor=0.2, status_forcelist=_RETRIED),
    )


def _checked(
    key: str, response: urllib3.BaseHTTPResponse, span: range | None, expected_etag: str | None
) -> tuple[int, str]:
    """Some stores ignore a condition, some answer a range with 200: only etag and length tell."""
    etag = _bare(response.headers.get("etag"))
    if expected_etag not in {None, etag}:
        raise ObjectChanged(key)
    length = int(response.headers.get("content-length", -1))
    if length < 0 or (span is not None and length > len(span)):
        raise ObjectStoreUnavailable(f"it answered {length} bytes for {span} of {key}")
    return length, etag


def _stream(key: str, response: urllib3.BaseHTTPResponse, chunk: int) -> Iterator[bytes]:
    with _faults(key):
        yield from response.stream(chunk)


@contextmanager
def _faults(key: str) -> Iterator[None]:
    """The one place where the SDK's many ways to fail become ours."""
    try:
        yield
    except (MinioException, HTTPError) as error:
        raise _ours(key, error) from error


def _ours(key: str, error: MinioException | HTTPError) -> Exception:
    code, status = _answer(error)
    if code == "NoSuchBucket":
        return ObjectStoreUnavailable(str(error))
    match status:
        case 404:
            return ObjectMissing(key)
        case 412:
            return ObjectChanged(key)
    return ObjectStoreUnavailable(str(error))


def _answer(error: Exception) -> tuple[str | None, int | None]:
    """The error's code and HTTP status.  A body that is XML by another content type the SDK leaves unread."""
    match error:
        case S3Error():
            return error.code, error.response.status
        case InvalidResponseError():
            code = re.search(r"<Code>(\w+)</Code>", error._body or "")  # there are no public names
            return (code and code[1]), error._code
        case ServerError():
            return None, error.status_code
    return None, None


def _bare(etag: str | None) -> str:
    return (etag or "").removeprefix("W/").strip('"')
