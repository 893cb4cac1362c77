"""New bytes that wait until all is well: in memory if they are few, else in a file without a name."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from tempfile import SpooledTemporaryFile
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from infra.objects.store import CHUNK
from schemas.words import Slot
from services.aggregator.reducing.finishing import Made

_IN_MEMORY = 8 << 20


class Spool:
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.size = 0

    def write(self, values: NDArray[Any]) -> None:
        self.size += self._file.write(values.view(np.uint8).data)

    def chunks(self) -> Iterator[bytes]:
        """All that was written, from the beginning."""
        self._file.seek(0)
        while chunk := self._file.read(CHUNK):
            yield chunk


@contextmanager
def spooled(made: Iterable[Made], slots: Sequence[Slot]) -> Iterator[tuple[Spool, ...]]:
    """The model's bytes, then those of each slot.  All have been made before the first of them is given."""
    parts: tuple[Slot | None, ...] = (None, *slots)
    with ExitStack() as files:
        spools = {part: Spool(files.enter_context(SpooledTemporaryFile(_IN_MEMORY))) for part in parts}
        for part, values in made:
            spools[part].write(values)
        yield tuple(spools.values())
