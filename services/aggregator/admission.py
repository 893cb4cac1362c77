"""Which tensors an update holds, by its header; anything but what it must hold is refused."""

from collections.abc import Iterable
from dataclasses import dataclass

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


def header_limit(model: Layout, extra: Extra | None) -> int:
    """No update's header is longer, prefix not counted."""
    return max(MAX_HEADER, update_layout(model, extra).header_size - PREFIX_SIZE)


def admit_all(header: bytes, model: Layout, extra: Extra | None) -> Admitted:
    """The header must be that of all tensors of the model, each with its extra."""
    expected = update_layout(model, extra)
    if header != expected.header:
        require_same_header(parse_header(header), expected)
    return Admitted(expected)


def admit_some(header: bytes, model: Layout, extra: Extra | None) -> Admitted:
    """The header must be that of at least one of the model's tensors, each with its extra."""
    found = parse_header(header)
    names = {tensor.name for tensor in found.tensors}
    places = tuple(place for place, tensor in enumerate(model.tensors) if tensor.name in names)
    if not places:
        raise HeaderDiffers("it has none of its tensors")
    expected = update_layout(model, extra, places)
    _require_extras_with_tensors(names, update_layout(model, extra), expected)
    require_same_header(found, expected)
    return Admitted(expected, places if len(places) < len(model.tensors) else None)


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
