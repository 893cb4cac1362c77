"""Combines one window: takes loads as they come, gives the next values of the model and of the state."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.weights.arrays import NUMPY
from infra.weights.layout import Dtype
from infra.weights.parts import slot_dtype
from schemas.words import Slot
from services.aggregator.reducing.finishing import Beside, Made, finished
from services.aggregator.reducing.folding import fold_of
from services.aggregator.reducing.recipe import Recipe
from services.aggregator.reducing.windows import Run, Window

Values = NDArray[Any]
Views = Mapping[int, Values]  # by the run's place in its window
Batch = Mapping[int, Views]  # by the sender's place among the recipe's updates


def of_sender(window: Window, sender: int, buffer: NDArray[np.uint8]) -> Views:
    """What an update's bytes of the window mean."""
    return _views(window, buffer, lambda run: run.dtype if sender in run.senders else None)


def of_current(window: Window, buffer: NDArray[np.uint8]) -> Views:
    return _views(window, buffer, lambda run: run.dtype if run.has_current else None)


def of_slot(window: Window, slot: Slot, buffer: NDArray[np.uint8]) -> Views:
    return _views(window, buffer, lambda run: slot_dtype(slot, run.dtype) if slot in run.slots else None)


def combined(
    recipe: Recipe, window: Window, current: Views, state: Mapping[Slot, Views], batches: Iterable[Batch]
) -> Iterator[Made]:
    """All batches are taken before the first values come out; they are in the order of the window."""
    folds = [fold_of(recipe, run) if run.senders else None for run in window]
    for batch in batches:
        for place, fold in enumerate(folds):
            rows = {sender: views[place] for sender, views in batch.items() if place in views}
            if fold is not None and rows:
                fold.add(rows, current.get(place))
    for place, (run, fold) in enumerate(zip(window, folds, strict=True)):
        beside = {slot: views[place] for slot, views in state.items() if place in views}
        yield from finished(recipe, run, fold, Beside(run, current.get(place), beside))


def _views(window: Window, buffer: NDArray[np.uint8], dtype_in: Callable[[Run], Dtype | None]) -> Views:
    found = {}
    at = 0
    for place, run in enumerate(window):
        dtype = dtype_in(run)
        if dtype is not None:
            end = at + run.elements * dtype.itemsize
            found[place] = buffer[at:end].view(NUMPY[dtype])
            at = end
    assert at == len(buffer)
    return found
