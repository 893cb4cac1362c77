"""Which tensors an update holds, by its header; anything but what it must hold is refused."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from infra.weights.compare import require_same_header
from infra.weights.header import MAX_HEADER, PREFIX_SIZE, parse_header
from infra.weights.layout import Layout
from infra.weights.parts import update_layout
from infra.weights.refusals import HeaderDiffers, WeightsPadded, WeightsTruncated
from schemas.words import Extra


@dataclass(frozen=True)
class Admitted:
    """`tensors` are the places of its tensors in the model's layout, ascending; None: it has them all."""

    layout: Layout
    tensors: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Admission:
    """To a round over this model, whose updates have extras of this kind, or none."""

    model: Layout
    extra: Extra | None

    @cached_property
    def whole(self) -> Layout:
        """The layout of an update with all tensors."""
        return update_layout(self.model, self.extra)

    @property
    def header_limit(self) -> int:
        """No update's header is longer, its prefix not counted."""
        return max(MAX_HEADER, self.whole.header_size - PREFIX_SIZE)

    def all(self, header: bytes) -> Admitted:
        """The header must be that of all tensors of the model, each with its extra."""
        if header != self.whole.header:
            require_same_header(parse_header(header), self.whole)
        return Admitted(self.whole)

    def some(self, header: bytes) -> Admitted:
        """The header must be that of at least one of the model's tensors, each with its extra."""
        if header == self.whole.header and self.model.tensors:
            return Admitted(self.whole)
        found = parse_header(header)
        names = {tensor.name for tensor in found.tensors}
        places = tuple(place for place, tensor in enumerate(self.model.tensors) if tensor.name in names)
        if not places:
            raise HeaderDiffers("it has none of its tensors")
        expected = update_layout(self.model, self.extra, places)
        _require_extras_with_tensors(names, self.whole, expected)
        require_same_header(found, expected)
        return Admitted(expected, places)


def require_size(size: int, layout: Layout) -> None:
    if size < layout.size:
        raise WeightsTruncated(size, layout.size)
    if size > layout.size:
        raise WeightsPadded(size, layout.size)


def _require_extras_with_tensors(names: Iterable[str], whole: Layout, expected: Layout) -> None:
    """Names that belong to an update, but not to this one, are those of extras without their tensors."""
    alone = set(names) & {tensor.name for tensor in whole.tensors} - {t.name for t in expected.tensors}
    if alone:
        raise HeaderDiffers(f"tensor {min(alone)!r} has come without the one it goes with")
