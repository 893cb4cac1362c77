"""Which bytes of the files beside a model belong to a range of the model's data.

Such files are updates, with all tensors or some of them and with or without extra ones, and the parts of a
strategy's state.  A shard is a range of the model's data, whatever else there is.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from infra.weights.layout import Dtype, Layout, Tensor, canonical, in_this_order
from infra.weights.refusals import ExtraNameTaken
from schemas.words import Extra, Slot

FLOATS = frozenset({Dtype.F64, Dtype.F32, Dtype.F16, Dtype.BF16})

_LIKE_THE_MODEL = (Slot.CONTROL, Slot.SECOND_MOMENT)


@dataclass(frozen=True, slots=True)
class Piece:
    """Neighbouring elements of one tensor of a file.

    `tensor` is the place in the model's layout of the tensor they belong to, or, of an extra, go with;
    `first` is the number of the first element in that tensor, `begin` its byte in the file's data.
    """

    tensor: int
    is_extra: bool
    dtype: Dtype
    first: int
    elements: int
    begin: int

    @property
    def size(self) -> int:
        return self.elements * self.dtype.itemsize

    @property
    def end(self) -> int:
        return self.begin + self.size


def update_layout(model: Layout, extra: Extra | None = None, tensors: Sequence[int] | None = None) -> Layout:
    """The canonical layout of an update: of some of the model's tensors and the extras beside them."""
    if extra is None and tensors is None:
        return model
    chosen = model.tensors if tensors is None else [model.tensors[index] for index in tensors]
    if extra is None:
        return canonical(chosen)
    _require_free_names(model, extra)
    beside = [replace(each, name=_extra_name(extra, each)) for each in chosen if each.dtype in FLOATS]
    return canonical([*chosen, *beside])


def slot_layout(model: Layout, slot: Slot) -> Layout:
    """The floating-point tensors in the model's order, so that a shard of them is one range."""
    floats = (tensor for tensor in model.tensors if tensor.dtype in FLOATS)
    return in_this_order(replace(tensor, dtype=slot_dtype(slot, tensor.dtype)) for tensor in floats)


def slot_dtype(slot: Slot, dtype: Dtype) -> Dtype:
    """Of the state beside a tensor of this dtype."""
    return dtype if slot in _LIKE_THE_MODEL else Dtype.F64


def pieces(model: Layout, file: Layout, span: range) -> tuple[Piece, ...]:
    """What lies in `file`, in the order of its bytes, of this range of the model's data.

    `file` is the model itself or has one of the layouts above.
    """
    places = {tensor.name: place for place, tensor in enumerate(model.tensors)}
    found = []
    for tensor in file.tensors:
        place, is_extra = _place(tensor.name, places)
        part = _part(model.tensors[place], span)
        if part:
            begin = tensor.begin + part.start * tensor.dtype.itemsize
            found.append(Piece(place, is_extra, tensor.dtype, part.start, len(part), begin))
    return tuple(found)


def ranges(pieces: Iterable[Piece]) -> tuple[range, ...]:
    """Their bytes in the file's data, in the same order; neighbours are one range."""
    found: list[range] = []
    for piece in pieces:
        if found and found[-1].stop == piece.begin:
            found[-1] = range(found[-1].start, piece.end)
        else:
            found.append(range(piece.begin, piece.end))
    return tuple(found)


def _part(tensor: Tensor, span: range) -> range:
    """The tensor's elements whose bytes are in the range."""
    size = tensor.dtype.itemsize
    begin, end = max(tensor.begin, span.start), min(tensor.end, span.stop)
    return range((begin - tensor.begin) // size, (end - tensor.begin) // size) if begin < end else range(0)


def _extra_name(extra: Extra, tensor: Tensor) -> str:
    return f"{extra}/{tensor.name}"


def _require_free_names(model: Layout, extra: Extra) -> None:
    """Of all tensors, also those that this update has not: a name must mean the same in every update."""
    taken = {tensor.name for tensor in model.tensors}
    for tensor in model.tensors:
        if tensor.dtype in FLOATS and _extra_name(extra, tensor) in taken:
            raise ExtraNameTaken(_extra_name(extra, tensor))


def _place(name: str, places: Mapping[str, int]) -> tuple[int, bool]:
    if name in places:
        return places[name], False
    return places[name.partition("/")[2]], True
