"""Digests of bytes on their way."""

from collections.abc import Iterable, Iterator
from typing import Protocol

from blake3 import blake3

from infra.streams import Chunk
from infra.weights.refusals import DigestDiffers


class Digest(Protocol):
    def update(self, data: Chunk, /) -> object: ...


def watched(chunks: Iterable[Chunk], digest: Digest) -> Iterator[Chunk]:
    for chunk in chunks:
        digest.update(chunk)
        yield chunk


def checked(chunks: Iterable[Chunk], expected: str) -> Iterator[Chunk]:
    """Refused after the last of them if their BLAKE3 is another one."""
    digest = blake3()
    yield from watched(chunks, digest)
    if digest.hexdigest() != expected:
        raise DigestDiffers(digest.hexdigest(), expected)
