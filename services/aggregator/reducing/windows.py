"""Cuts the work on a shard: runs of elements that are treated alike, windows of them that fit into memory."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from infra.weights.layout import Dtype, Layout
from infra.weights.parts import Piece, pieces, ranges, update_layout
from schemas.words import Slot
from services.aggregator.reducing.recipe import Recipe, Treatment


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring elements that are treated alike.  `senders` are places among the recipe's updates.

    `has_current` and `slots` say what is needed besides the updates.
    """

    treatment: Treatment
    dtype: Dtype
    senders: tuple[int, ...]
    has_current: bool
    slots: tuple[Slot, ...]
    elements: int

    @property
    def size(self) -> int:
        return self.elements * self.dtype.itemsize


Window = tuple[Run, ...]
Chosen = Callable[[Run], bool]


@dataclass(frozen=True)
class Work:
    """All there is to do for one shard, in the order of the bytes of an update that has everything."""

    recipe: Recipe
    model: Layout
    span: range
    items: tuple[tuple[Piece, Run], ...]

    def runs(self) -> tuple[Run, ...]:
        """Neighbours that are alike are one."""
        groups = groupby((run for _, run in self.items), key=lambda run: replace(run, elements=0))
        return tuple(replace(alike, elements=sum(run.elements for run in group)) for alike, group in groups)

    def ranges_in(self, layout: Layout, chosen: Chosen | None = None) -> tuple[range, ...]:
        """Bytes of the shard in the data of a file with this layout: all, or those beside the chosen runs."""
        found: Iterable[Piece] = pieces(self.model, layout, self.span)
        if chosen is not None:
            wanted = {piece.tensor for piece, run in self.items if chosen(run)}
            found = (piece for piece in found if piece.tensor in wanted)
        return ranges(found)


def work_on(recipe: Recipe, model: Layout, span: range) -> Work:
    template = update_layout(model, recipe.plan.extra)
    senders = _senders(recipe)
    found = []
    for piece in pieces(model, template, span):
        treatment = recipe.treatment(model.tensors[piece.tensor], piece.is_extra)
        sent_by = senders(piece.tensor)
        run = Run(
            treatment=treatment,
            dtype=piece.dtype,
            senders=sent_by,
            has_current=recipe.needs_current(treatment, piece.dtype, sent_by),
            slots=recipe.needed_slots(treatment, sent_by),
            elements=piece.elements,
        )
        found.append((piece, run))
    return Work(recipe, model, span, tuple(found))


def windows(runs: Iterable[Run], cost: Callable[[Run], int], budget: int) -> Iterator[Window]:
    """The runs in order, cut so that each window's elements cost the budget at most, or are a single one."""
    window: list[Run] = []
    left = budget
    for run in runs:
        each, missing = cost(run), run.elements
        while missing:
            taken = min(missing, max(left // each, 0 if window else 1))
            if taken:
                window.append(replace(run, elements=taken))
                left -= taken * each
                missing -= taken
            if missing:
                yield tuple(window)
                window, left = [], budget
    if window:
        yield tuple(window)


def _senders(recipe: Recipe) -> Callable[[int], tuple[int, ...]]:
    everybody = tuple(range(len(recipe.updates)))
    if all(update.tensors is None for update in recipe.updates):
        return lambda tensor: everybody
    sent: Sequence[frozenset[int] | None] = [
        None if update.tensors is None else frozenset(update.tensors) for update in recipe.updates
    ]
    return lambda tensor: tuple(k for k in everybody if (some := sent[k]) is None or tensor in some)
