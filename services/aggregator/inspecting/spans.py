"""Which bytes of an update belong to which shard, and lie beside which bytes of the model."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from infra.streams import Chunk
from infra.weights.layout import Dtype, Layout
from infra.weights.parts import FLOATS, Piece, pieces

_GAP = 1 << 20  # bytes that are rather read and dropped than left out by another request


@dataclass(frozen=True, slots=True)
class Stretch:
    """Bytes `begin` to `end` of a file's data: neighbouring elements of one dtype, extra ones or not."""

    dtype: Dtype
    is_extra: bool
    begin: int
    end: int

    @property
    def counts(self) -> bool:
        """Whether norms are over it: floating-point tensors of the model."""
        return self.dtype in FLOATS and not self.is_extra

    def blocks(self, elements: int) -> Iterator[range]:
        """So many elements each, the last one fewer, as bytes of the file's data."""
        size = elements * self.dtype.itemsize
        return (range(at, min(at + size, self.end)) for at in range(self.begin, self.end, size))


@dataclass(frozen=True, slots=True)
class Share:
    """Bytes up to `end` of a file's data, from where the share before ended, are part of a shard."""

    shard: int
    end: int


def all_pieces(model: Layout, file: Layout) -> tuple[Piece, ...]:
    return pieces(model, file, range(model.data_size))


def stretches(found: Iterable[Piece]) -> tuple[Stretch, ...]:
    groups = (tuple(group) for _, group in groupby(found, key=lambda piece: (piece.dtype, piece.is_extra)))
    return tuple(Stretch(each[0].dtype, each[0].is_extra, each[0].begin, each[-1].end) for each in groups)


def shares(model: Layout, found: Iterable[Piece], shard_bytes: int) -> tuple[Share, ...]:
    """All of a file's data in order.  The same as asking `pieces` for each shard, but in one go."""
    cut: list[Share] = []
    for piece in found:
        begin = model.tensors[piece.tensor].begin
        for shard in range(begin // shard_bytes, -(-(begin + piece.size) // shard_bytes)):
            end = piece.begin + min((shard + 1) * shard_bytes - begin, piece.size)
            if cut and cut[-1].shard == shard:
                cut.pop()
            cut.append(Share(shard, end))
    return tuple(cut)


def in_the_model(model: Layout, found: Iterable[Piece]) -> tuple[range, ...]:
    """Where in the model's data the tensors lie that norms are over; neighbours are one range."""
    wanted: list[range] = []
    for piece in found:
        if piece.dtype in FLOATS and not piece.is_extra:
            tensor = model.tensors[piece.tensor]
            begin = wanted.pop().start if wanted and wanted[-1].stop == tensor.begin else tensor.begin
            wanted.append(range(begin, tensor.end))
    return tuple(wanted)


def requests(wanted: Iterable[range]) -> tuple[tuple[range, ...], ...]:
    """The ranges, ascending, in groups that are worth one reading from the first to the last of them."""
    groups: list[list[range]] = []
    for each in wanted:
        if groups and each.start - groups[-1][-1].stop <= _GAP:
            groups[-1].append(each)
        else:
            groups.append([each])
    return tuple(map(tuple, groups))


def parts_of(chunks: Iterable[Chunk], at: int, wanted: Sequence[range]) -> Iterator[memoryview]:
    """What of these chunks, the first of which begins at `at`, lies in the ranges, ascending."""
    for chunk in chunks:
        view, end = memoryview(chunk), at + len(chunk)
        turn = bisect_right(wanted, at, key=lambda each: each.stop)
        while turn < len(wanted) and wanted[turn].start < end:
            each = wanted[turn]
            yield view[max(each.start - at, 0) : each.stop - at]
            turn += 1
        at = end
