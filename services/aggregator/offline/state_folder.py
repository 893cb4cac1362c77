"""A strategy's state as a folder: a file per slot, and a note of what they go with."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import ValidationError

from infra.weights.arrays import NUMPY
from infra.weights.layout import Layout
from infra.weights.parts import slot_layout
from infra.weights.refusals import NotFinite
from schemas.offline import StateNote
from schemas.refusal import Refusal
from schemas.strategies import Strategy
from schemas.words import Slot
from services.aggregator.offline.inputs import FileRefused, Input, read_input

NOTE = "state.json"
_BLOCK = 1 << 20  # a multiple of every element's size
_MAY_BE_MISSING = (Slot.SECOND_MOMENT,)  # not every round has one


class StateOfAnother(Refusal):
    """The state goes with another model or strategy than it is used with."""

    code: ClassVar[str] = "state_of_another"

    def __init__(self, folder: Path, what: str) -> None:
        super().__init__(f"the state in {folder} is of another {what}; without {NOTE} it is taken as it is")


@dataclass(frozen=True, slots=True)
class FoundState:
    """`round` is the one it was made in, if that is noted."""

    slots: Mapping[Slot, Input]
    round: int | None


def file_of(folder: Path, slot: Slot) -> Path:
    return folder / f"{slot}.safetensors"


def read_state(folder: Path, strategy: Strategy, model: Input, scratch: Path) -> FoundState:
    """All that the strategy needs to go on with this model."""
    note = _note(folder)
    if note and note.strategy.name != strategy.name:
        raise StateOfAnother(folder, f"strategy ({note.strategy.name})")
    if note and note.model_sha256 != model.sha256:
        raise StateOfAnother(folder, f"model (sha256 {note.model_sha256[:12]}…)")
    slots = [slot for slot in strategy.slots if slot not in _MAY_BE_MISSING or file_of(folder, slot).exists()]
    found = {slot: _read(file_of(folder, slot), slot, model.layout, scratch) for slot in slots}
    return FoundState(found, note.round if note else None)


def _read(file: Path, slot: Slot, model: Layout, scratch: Path) -> Input:
    return read_input(file, scratch / f"state-{slot}", lambda _: slot_layout(model, slot), _require_finite)


def _require_finite(path: Path, layout: Layout) -> None:
    """Squares may be larger than any number of a model."""
    with path.open("rb") as file:
        for tensor in layout.tensors:
            file.seek(layout.header_size + tensor.begin)
            for begin in range(0, tensor.size, _BLOCK):
                values = np.frombuffer(file.read(min(tensor.size - begin, _BLOCK)), NUMPY[tensor.dtype])
                if not (finite := np.isfinite(values)).all():
                    raise NotFinite(tensor.name, begin // tensor.dtype.itemsize + int(np.argmin(finite)))


def _note(folder: Path) -> StateNote | None:
    file = folder / NOTE
    try:
        return StateNote.model_validate_json(file.read_bytes()) if file.exists() else None
    except (OSError, ValidationError) as error:
        raise FileRefused(file, f"it cannot be read as a note of a state: {error}") from error
