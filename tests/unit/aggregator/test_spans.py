from hypothesis import given
from hypothesis import strategies as st

from services.aggregator.inspecting.spans import parts_of, requests
from tests.unit.aggregator.chunking import chunk_sizes, chunked

MIB = 1 << 20

cuts = st.sets(st.integers(0, 200)).map(sorted)


def test_ranges_that_lie_near_one_another_are_read_together() -> None:
    near, nearer, far = range(100), range(100 + MIB, 200 + MIB), range(201 + 2 * MIB, 300 + 2 * MIB)
    assert requests([near, nearer, far]) == ((near, nearer), (far,))
    assert requests([]) == ()


@given(cuts, chunk_sizes, st.integers(0, 100))
def test_of_the_chunks_only_what_lies_in_the_ranges_is_left(
    cut: list[int], sizes: list[int], at: int
) -> None:
    whole = bytes(number % 251 for number in range(at + 201))
    wanted = [range(at + a, at + b) for a, b in zip(cut[::2], cut[1::2], strict=False)]
    found = b"".join(parts_of(chunked(whole[at:], sizes), at, wanted))
    assert found == b"".join(whole[each.start : each.stop] for each in wanted)
