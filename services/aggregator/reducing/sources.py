"""Where the bytes lie that a shard needs, and in which order they are used."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache, partial

from infra.objects.store import CHUNK, Content, ObjectStore
from infra.weights.layout import Layout
from infra.weights.parts import slot_dtype, slot_layout, update_layout
from schemas.weights import PlannedUpdate, StateRef
from schemas.words import Slot
from services.aggregator.known import ours
from services.aggregator.reducing.reading import Load, Source, blaming
from services.aggregator.reducing.recipe import Recipe
from services.aggregator.reducing.windows import Window, Work

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """What one command may hold and open at once: bytes, if nothing else is said."""

    window: int = 16 * MIB  # sums, and what is beside the updates
    all_rows: int = 12 * MIB  # a window of all updates, where they are needed at once
    loads: int = 24 * MIB  # that are read early
    chunks: int = 8 * MIB  # of all requests that are kept open
    least_chunk: int = 16 << 10
    requests: int = 200  # that are kept open
    batch: int = 2  # updates that are folded at once
    threads: int = 2  # that read


@dataclass(frozen=True)
class Sources:
    """The current model, the parts of the state that there are, and the updates, window by window."""

    windows: tuple[Window, ...]
    current: Source
    state: dict[Slot, Source]
    updates: tuple[Source, ...]

    def __iter__(self) -> Iterator[Source]:
        yield self.current
        yield from self.state.values()
        yield from self.updates

    def loads(self) -> Iterator[Load]:
        """In the order of their use; of a window the updates come last."""
        for window in self.windows:
            yield Load(self.current, current_size(window))
            yield from (Load(source, slot_size(window, slot)) for slot, source in self.state.items())
            yield from (Load(source, sent_size(window, k)) for k, source in enumerate(self.updates))


def current_size(window: Window) -> int:
    return sum(run.size for run in window if run.has_current)


def slot_size(window: Window, slot: Slot) -> int:
    return sum(run.elements * slot_dtype(slot, run.dtype).itemsize for run in window if slot in run.slots)


def sent_size(window: Window, sender: int) -> int:
    return sum(run.size for run in window if sender in run.senders)


def sources_of(
    objects: ObjectStore, work: Work, shard: int, windows: tuple[Window, ...], limits: Limits
) -> Sources:
    find = _Finder(objects, work, _chunk(work.recipe, windows, limits))
    refs = [ref for ref in work.recipe.plan.state if ref.slot in work.recipe.slots]
    return Sources(
        windows=windows,
        current=find.current(),
        state={ref.slot: find.slot(ref) for ref in refs},
        updates=tuple(find.update(update, shard) for update in work.recipe.updates),
    )


def _chunk(recipe: Recipe, windows: tuple[Window, ...], limits: Limits) -> int | None:
    """Of requests that are kept open from window to window, where they are worth it and not too many."""
    if len(windows) < 2 or len(recipe.updates) > limits.requests:
        return None
    return min(CHUNK, max(limits.least_chunk, limits.chunks // len(recipe.updates)))


class _Finder:
    def __init__(self, objects: ObjectStore, work: Work, chunk: int | None) -> None:
        self._objects, self._work = objects, work
        self._chunk, self._keeps_open = chunk or CHUNK, chunk is not None
        self._update = cache(self._placed)

    def current(self) -> Source:
        current = self._work.recipe.plan.current
        where = self._work.ranges_in(self._work.model, lambda run: run.has_current)
        return self._source(current.key, _after(current.header_size, where))

    def slot(self, ref: StateRef) -> Source:
        layout = slot_layout(self._work.model, ref.slot)
        where = self._work.ranges_in(layout, lambda run: ref.slot in run.slots)
        return self._source(ref.key, _after(layout.header_size, where))

    def update(self, update: PlannedUpdate, shard: int) -> Source:
        where = self._update(update.tensors)
        opened = partial(self._open, update.key, etag=update.etag)
        digest = update.digests[shard]
        return Source(opened, where, partial(blaming, update), digest, keeps_open=self._keeps_open)

    def _source(self, key: str, where: tuple[range, ...]) -> Source:
        return Source(partial(self._open, key), where, partial(ours, key), keeps_open=self._keeps_open)

    def _placed(self, tensors: tuple[int, ...] | None) -> tuple[range, ...]:
        layout: Layout = update_layout(self._work.model, self._work.recipe.plan.extra, tensors)
        return _after(layout.header_size, self._work.ranges_in(layout))

    def _open(self, key: str, where: range, etag: str | None = None) -> AbstractContextManager[Content]:
        return self._objects.read(key, where, expected_etag=etag, chunk=self._chunk)


def _after(header: int, where: tuple[range, ...]) -> tuple[range, ...]:
    return tuple(range(header + each.start, header + each.stop) for each in where)
