"""Weights files on disk: read their layout, rewrite them into canonical form."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from infra.weights.compare import require_same_tensors
from infra.weights.header import MAX_HEADER, PREFIX_SIZE, header_size, parse_header
from infra.weights.layout import Layout
from infra.weights.refusals import WeightsPadded, WeightsTruncated

CHUNK = 1 << 20


def read_layout(path: Path, header_limit: int = MAX_HEADER) -> Layout:
    """The layout of a file whose header is valid and whose size is exactly what the header says."""
    with path.open("rb") as file:
        prefix = file.read(PREFIX_SIZE)
        rest = header_size(prefix, header_limit) - PREFIX_SIZE
        header = file.read(rest)
        size = os.fstat(file.fileno()).st_size
    if len(header) != rest:
        raise WeightsTruncated(size, PREFIX_SIZE + rest)
    layout = parse_header(prefix + header)
    if size != layout.size:
        raise (WeightsTruncated if size < layout.size else WeightsPadded)(size, layout.size)
    return layout


def canonicalise(source: Path, layout: Layout, destination: Path) -> None:
    """Write the tensors of `source` in the order and under the header of `layout`.

    The source may have them in another order and may carry metadata.  Holds one chunk at a time.
    """
    found = read_layout(source)
    require_same_tensors(found, layout)
    places = {tensor.name: tensor.begin + found.header_size for tensor in found.tensors}
    with source.open("rb") as reader, destination.open("wb") as writer:
        writer.write(layout.header)
        for tensor in layout.tensors:
            for chunk in _read(reader, places[tensor.name], tensor.size):
                writer.write(chunk)


def _read(file: BinaryIO, begin: int, size: int) -> Iterator[bytes]:
    file.seek(begin)
    while size > 0:
        chunk = file.read(min(size, CHUNK))
        if not chunk:
            raise EOFError("the file became shorter while it was read")
        size -= len(chunk)
        yield chunk
