"""Checks one update while it streams by, and notes what later steps need to know about it."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass

from blake3 import blake3

from infra.streams import Chunk, ChunkStream
from infra.weights.header import PREFIX_SIZE, header_size
from infra.weights.layout import Layout, shards
from infra.weights.refusals import WeightsPadded, WeightsTruncated
from schemas.words import Extra, UpdateKind
from services.aggregator.inspecting.admission import Admission, Admitted, require_size
from services.aggregator.inspecting.numbers import Beside, Numbers
from services.aggregator.inspecting.spans import (
    Share,
    all_pieces,
    in_the_model,
    parts_of,
    requests,
    shares,
    stretches,
)

Current = Callable[[range], AbstractContextManager[Iterable[Chunk]]]  # bytes of the current model's data


@dataclass(frozen=True)
class Terms:
    """What an update of a round must be, and what is to be known about it."""

    shard_bytes: int
    update: UpdateKind = UpdateKind.WEIGHTS
    partial: bool = False
    extra: Extra | None = None
    measures: bool = False

    @property
    def needs_model(self) -> bool:
        return self.measures or self.update is UpdateKind.DELTA


@dataclass(frozen=True)
class Inspection:
    """What an accepted update looks like; `tensors` and `digests` are as in `PlannedUpdate`.

    `norm` is the Euclidean norm of all floating-point numbers as they were sent, those of extras left out:
    of a vector of these numbers, or of some of them, it is an upper bound up to rounding.  `distance` is that
    of their difference from the current model, to which tensors that were not sent add nothing.
    """

    norm: float
    distance: float | None
    digests: tuple[str, ...]
    tensors: tuple[int, ...] | None


def inspect(
    chunks: Iterable[Chunk], size: int, model: Layout, terms: Terms, *, current: Current
) -> Inspection:
    """Read the whole file once, holding a few chunks, and refuse it unless it is a sane update of this model.

    The same file gives the same figures however it is cut into chunks.
    """
    admission = Admission(model, terms.extra)
    if not terms.partial:
        require_size(size, admission.whole)
    stream = ChunkStream(chunks)
    admitted = _admitted(stream, admission, terms)
    require_size(size, admitted.layout)
    pieces = all_pieces(model, admitted.layout)
    count = len(shards(model.data_size, terms.shard_bytes))
    digests = Digests(shares(model, pieces, terms.shard_bytes), count)
    data = ChunkStream(digests.watch(stream.rest()))
    wanted = in_the_model(model, pieces) if terms.needs_model else ()
    with closing(_held(current, wanted)) as held:
        beside = Beside(ChunkStream(held)) if terms.needs_model else None
        norms = Numbers(admitted.layout, terms.update, beside).look_through(data, stretches(pieces))
    if data.take(1):
        raise WeightsPadded(admitted.layout.size + 1, admitted.layout.size)
    distance = norms.distance if terms.measures else None
    return Inspection(norms.norm, distance, digests.of_shards(), admitted.tensors)


def _admitted(stream: ChunkStream, admission: Admission, terms: Terms) -> Admitted:
    prefix = bytes(stream.take(PREFIX_SIZE))
    size = header_size(prefix, admission.header_limit)
    header = prefix + stream.take(size - PREFIX_SIZE)
    if len(header) < size:
        raise WeightsTruncated(len(header), size)
    return admission.some(header) if terms.partial else admission.all(header)


def _held(current: Current, wanted: Iterable[range]) -> Generator[memoryview]:
    """These ranges of the model's data, one after the other."""
    for group in requests(wanted):
        with current(range(group[0].start, group[-1].stop)) as chunks:
            yield from parts_of(chunks, group[0].start, group)


class Digests:
    """BLAKE3 of each shard: of what the data of a file holds of it."""

    def __init__(self, cut: Sequence[Share], count: int) -> None:
        self._cut = cut
        self._shards = [blake3() for _ in range(count)]
        self._turn = self._position = 0

    def watch(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        for chunk in chunks:
            self._update(memoryview(chunk))
            yield chunk

    def of_shards(self) -> tuple[str, ...]:
        return tuple(shard.hexdigest() for shard in self._shards)

    def _update(self, chunk: memoryview) -> None:
        while chunk and self._turn < len(self._cut):
            share = self._cut[self._turn]
            part = chunk[: share.end - self._position]
            self._shards[share.shard].update(part)
            self._position += len(part)
            self._turn += self._position == share.end
            chunk = chunk[len(part) :]
