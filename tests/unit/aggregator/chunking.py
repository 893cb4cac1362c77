"""The same bytes, arriving in other chunks."""

from collections.abc import Iterator

from hypothesis import strategies as st

chunk_sizes = st.lists(st.integers(0, 50), min_size=1, max_size=8).filter(any)


def chunked(whole: bytes, sizes: list[int]) -> Iterator[bytes]:
    """Cut by these sizes, over and over."""
    at = turn = 0
    while at < len(whole):
        size = sizes[turn % len(sizes)]
        yield whole[at : at + size]
        at, turn = at + size, turn + 1
