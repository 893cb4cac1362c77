"""Measures one shard for strategies that choose: the inner products of all updates with one another."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.objects.store import ObjectStore
from infra.weights.parts import FLOATS
from services.aggregator.reducing.combining import of_current, of_sender
from services.aggregator.reducing.folding import AllRows, strip_of, strips
from services.aggregator.reducing.reading import Ahead, ahead
from services.aggregator.reducing.recipe import Recipe
from services.aggregator.reducing.sources import Limits, sources_of
from services.aggregator.reducing.windows import Run, Window, Work, windows
from services.aggregator.rules.gram import Gram
from services.aggregator.rules.refusals import NotMeasured

Values = NDArray[Any]


def measured(objects: ObjectStore, work: Work, shard: int, limits: Limits) -> Gram:
    """Of the updates as they would be combined.  Raises `LostUpdate` if one is not what was accepted.

    Rows are the updates or, where they are clipped, partial or deltas, their differences from the current
    model: distances are the same.  What an update has not is the current model's.
    """
    gram = Gram(norms_of(work.recipe))
    cut = tuple(windows(work.runs(), _cost, limits.all_rows))
    sources = sources_of(objects, work, shard, cut, limits)
    with ahead(sources.loads(), tuple(sources), limits.loads, limits.threads) as loads:
        for window in cut:
            _add_window(gram, work.recipe, window, loads)
    return gram


def norms_of(recipe: Recipe) -> list[float]:
    """The rows' norms, over all floats."""
    norms = []
    for update, scale in zip(recipe.updates, recipe.scales, strict=True):
        norm = update.distance if recipe.compares_differences and not recipe.is_delta else update.norm
        if norm is None:
            raise NotMeasured(update.client_id)
        norms.append(scale * norm)
    return norms


def _cost(run: Run) -> int:
    return run.dtype.itemsize * (run.has_current + max(1, len(run.senders)))


def _add_window(gram: Gram, recipe: Recipe, window: Window, loads: Ahead) -> None:
    beside = loads.take()
    buffers = [loads.take() for _ in recipe.updates]
    current = of_current(window, beside)
    views = [of_sender(window, sender, buffer) for sender, buffer in enumerate(buffers)]
    for place, run in enumerate(window):
        if run.senders:
            rows = AllRows(recipe, run)
            rows.add({sender: views[sender][place] for sender in run.senders}, current.get(place))
            _add_run(gram, run, rows, current.get(place))
    for buffer in (beside, *buffers):
        loads.give_back(buffer)


def _add_run(gram: Gram, run: Run, rows: AllRows, current: Values | None) -> None:
    for part in strips(run.elements, strip_of(run)):
        sent = dict(zip(run.senders, rows.leant(part), strict=True))
        missing = _missing(run, next(iter(sent.values())), current, part)
        gram.add([sent.get(sender, missing) for sender in range(gram.rows)])


def _missing(run: Run, like: Values, current: Values | None, part: slice) -> Values:
    """What stands for an update that has not sent this: no difference, or the current values."""
    if run.dtype in FLOATS or current is None:
        return np.zeros_like(like)
    return current[part]
