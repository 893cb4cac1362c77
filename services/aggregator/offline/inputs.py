"""Weights files from anywhere: read where they lie if they are canonical, else rewritten."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from infra.weights.files import canonicalise, read_layout
from infra.weights.header import MAX_HEADER
from infra.weights.layout import Layout, canonical
from schemas.refusal import Refusal

_HEADERS = 3 * MAX_HEADER  # a model's, and as much again for the extra tensors of an update


class FileRefused(Refusal):
    code: ClassVar[str] = "file_refused"

    def __init__(self, file: Path, why: object) -> None:
        self.file = file
        super().__init__(f"{file}: {why}")


@dataclass(frozen=True, slots=True)
class Input:
    """`path` is where its canonical form lies."""

    path: Path
    layout: Layout
    sha256: str


def _canonical(layout: Layout) -> Layout:
    return canonical(layout.tensors)


def read_input(
    file: Path,
    copy: Path,
    wanted: Callable[[Layout], Layout] = _canonical,
    check: Callable[[Path, Layout], None] = lambda _, __: None,
) -> Input:
    """The file with its tensors as `wanted` lays them out, once `check` has nothing against it.

    Only where they are in another order, or with metadata, a copy is made.
    """
    try:
        found = read_layout(file, _HEADERS)
        layout, path = wanted(found), file
        if layout.header != found.header:
            path = copy
            canonicalise(file, layout, path)
        check(path, layout)
        with path.open("rb") as content:
            return Input(path, layout, hashlib.file_digest(content, "sha256").hexdigest())
    except Refusal as refusal:
        raise FileRefused(file, refusal) from refusal
    except OSError as error:
        raise FileRefused(file, error.strerror or error) from error
