"""Inspects files that are in memory, beside a model that is."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from infra.streams import Chunk
from infra.weights.layout import Layout
from infra.weights.parts import update_layout
from services.aggregator.inspecting.inspection import Current, Inspection, Terms, inspect
from tests.unit.aggregator.chunking import chunked
from tests.unit.weights.strategies import file_of

SHARD_BYTES = 16


def data_of(file: bytes, layout: Layout) -> bytes:
    return file[layout.header_size :]


def a_model(data: bytes, sizes: Iterable[int] = (7, 30)) -> Current:
    """The data of the current model, read in such chunks."""

    @contextmanager
    def current(span: range) -> Iterator[Iterable[Chunk]]:
        yield chunked(data[span.start : span.stop], list(sizes))

    return current


def inspected(
    file: bytes,
    layout: Layout,
    terms: Terms | None = None,
    *,
    sizes: Iterable[int] = (13,),
    model: bytes | None = None,
) -> Inspection:
    """`model` is the current model's file; by default any with this layout."""
    current = a_model(data_of(file_of(layout, seed=0) if model is None else model, layout))
    chunks = chunked(file, list(sizes))
    return inspect(chunks, len(file), layout, terms or Terms(SHARD_BYTES), current=current)


def update_of(model: Layout, terms: Terms, seed: int, tensors: Iterable[int] | None = None) -> bytes:
    """An update of any bits on these terms, with these of the model's tensors."""
    return file_of(update_layout(model, terms.extra, None if tensors is None else tuple(tensors)), seed)
