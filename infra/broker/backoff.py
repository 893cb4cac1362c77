"""How long to wait before trying again."""

import random
from collections.abc import Iterator


def jittered(first_s: float = 0.2, longest_s: float = 30.0) -> Iterator[float]:
    """Doubling up to a cap; each is drawn from its upper half, so that not all who wait come at once."""
    wait = first_s
    while True:
        yield random.uniform(wait / 2, wait)  # noqa: S311 -- not a secret
        wait = min(wait * 2, longest_s)
