"""Reduces one shard of a round: the next bytes of the model, and of the strategy's state.

Memory does not grow with the model, the shard or the number of updates: the windows of a shard are combined
one after the other, and each is read in loads of bounded size.
"""

from collections.abc import Callable, Iterator

from infra.objects.store import ObjectStore
from infra.weights.layout import Dtype
from infra.weights.parts import FLOATS, slot_dtype
from services.aggregator.reducing.combining import Batch, combined, of_current, of_sender, of_slot
from services.aggregator.reducing.finishing import Made
from services.aggregator.reducing.reading import Ahead, Buffer, ahead
from services.aggregator.reducing.recipe import Recipe
from services.aggregator.reducing.sources import Limits, Sources, sources_of
from services.aggregator.reducing.windows import Run, Window, Work, windows


def reduced(objects: ObjectStore, work: Work, shard: int, limits: Limits) -> Iterator[Made]:
    """Pieces of the model's new bytes and of each slot's, each in the order of its file.

    Raises `LostUpdate` if an update is not what was accepted, at the latest when all pieces have come out.
    """
    recipe = work.recipe
    budget = limits.all_rows if recipe.needs_all else limits.window
    cut = tuple(windows(work.runs(), lambda run: cost(recipe, run), budget))
    sources = sources_of(objects, work, shard, cut, limits)
    with ahead(sources.loads(), tuple(sources), limits.loads, limits.threads) as loads:
        for window in cut:
            yield from _Table(recipe, window, sources, loads).combined(limits.batch)


def cost(recipe: Recipe, run: Run) -> int:
    """Bytes that are held for one element while its window is combined."""
    beside = run.dtype.itemsize * run.has_current
    beside += sum(slot_dtype(slot, run.dtype).itemsize for slot in run.slots)
    if recipe.needs_all:
        return beside + run.dtype.itemsize * len(run.senders)
    sums = 8 if run.dtype in FLOATS or run.dtype == Dtype.BOOL else 24
    return sums + beside + 2 * run.dtype.itemsize


class _Table:
    """One window, and the loads that lie on it until they are not needed any more."""

    def __init__(self, recipe: Recipe, window: Window, sources: Sources, loads: Ahead) -> None:
        self._recipe, self._window, self._loads = recipe, window, loads
        self._sources = sources

    def combined(self, batch: int) -> Iterator[Made]:
        kept: list[Buffer] = []

        def take() -> Buffer:
            kept.append(self._loads.take())
            return kept[-1]

        current = of_current(self._window, take())
        state = {slot: of_slot(self._window, slot, take()) for slot in self._sources.state}
        if self._recipe.needs_all:
            batches = iter([self._taken(take, range(len(self._sources.updates)))])
        else:
            batches = self._batches(batch)
        yield from combined(self._recipe, self._window, current, state, batches)
        for buffer in kept:
            self._loads.give_back(buffer)

    def _taken(self, take: Callable[[], Buffer], senders: range) -> Batch:
        return {sender: of_sender(self._window, sender, take()) for sender in senders}

    def _batches(self, size: int) -> Iterator[Batch]:
        count = len(self._sources.updates)
        for first in range(0, count, size):
            senders = range(first, min(first + size, count))
            buffers = [self._loads.take() for _ in senders]
            yield {
                sender: of_sender(self._window, sender, buffer)
                for sender, buffer in zip(senders, buffers, strict=True)
            }
            for buffer in buffers:
                self._loads.give_back(buffer)
