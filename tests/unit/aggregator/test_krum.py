"""Distances against exact fractions, choices against the papers written down plainly."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import pairwise
from math import fsum, sqrt
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from infra.weights.arrays import NUMPY
from infra.weights.layout import Dtype
from schemas.ids import ClientId
from schemas.strategies import Bulyan, Krum, MultiKrum, Selection
from services.aggregator.rules.gram import Gram, MalformedGram
from services.aggregator.rules.krum import Chooser, Distances, choose, distances, krum_order, scores
from services.aggregator.rules.means import FLOATS
from services.aggregator.rules.refusals import NoUpdates, TooFewUpdates, TooManyUpdates
from tests.unit.aggregator.planned import a_client

Row = NDArray[Any]
Matrix = list[list[Fraction]]

SIZES = {Dtype.F64: 1e100, Dtype.F32: 1e30, Dtype.BF16: 1e30, Dtype.F16: 60_000}


def norm_of(row: Row) -> float:
    return sqrt(fsum(float(value) ** 2 for value in row))


def exact(rows: Sequence[Sequence[Row]]) -> Matrix:
    """Squares of distances; each row is a sequence of tensors."""
    flat = [[Fraction(value) for tensor in row for value in tensor.tolist()] for row in rows]
    return [[sum((a - b) ** 2 for a, b in zip(x, y, strict=True)) for y in flat] for x in flat]  # type: ignore[misc]  # of none it is 0


def near(found: Distances, expected: Matrix) -> bool:
    places = [(i, j) for i in range(len(expected)) for j in range(len(expected))]
    return all(abs(found.square(i, j) - expected[i][j]) <= expected[i][j] / 10**12 for i, j in places)


def limits_of(dtype: Dtype) -> tuple[int, int]:
    if dtype == Dtype.BOOL:
        return 0, 1
    limits = np.iinfo(NUMPY[dtype].name)
    return int(limits.min), int(limits.max)


def some_floats(dtype: Dtype, rows: int, size: int, seed: int) -> list[Row]:
    random = np.random.default_rng(seed)
    wide = random.standard_normal((rows, size)) * 10.0 ** random.integers(-3, 4, (rows, size))
    return list(wide.astype(NUMPY[dtype]))


@given(st.sampled_from(sorted(FLOATS)), st.integers(1, 6), st.integers(0, 30), st.integers(0, 2**32))
def test_distances_of_floats_are_those_of_exact_arithmetic(
    dtype: Dtype, rows: int, size: int, seed: int
) -> None:
    given_rows = some_floats(dtype, rows, size, seed)
    gram = Gram([norm_of(row) for row in given_rows])
    gram.add(given_rows)
    assert near(distances([gram]), exact([[row] for row in given_rows]))


def test_small_distances_stay_exact_beside_a_row_that_is_far_larger() -> None:
    rows = some_floats(Dtype.F32, 4, 300, 7)
    rows[3] = rows[3] * np.float32(1e12)
    gram = Gram([norm_of(row) for row in rows])
    gram.add(rows)
    assert near(distances([gram]), exact([[row] for row in rows]))


def test_a_small_difference_of_large_rows_is_not_lost() -> None:
    base = some_floats(Dtype.F64, 1, 300, 7)[0]
    rows = [base, base + 1e-9, base * (1 + 1e-10)]
    gram = Gram([norm_of(row) for row in rows])
    gram.add(rows)
    assert near(distances([gram]), exact([[row] for row in rows]))


def test_what_is_smaller_than_the_smallest_digit_is_rounded_away() -> None:
    gram = Gram([1.0, 1.0])
    gram.add([np.array([1.0, 2.0**-100]), np.array([1.0, 0.0])])
    assert distances([gram]).square(0, 1) == 0


@given(st.data())
def test_integers_and_booleans_count_to_the_last_one(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from([dtype for dtype in Dtype if dtype not in FLOATS]))
    rows, size = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 6))
    low, high = limits_of(dtype)
    numbers = st.sampled_from([low, low + 1, high - 1, high]) | st.integers(low, high)
    column = st.lists(numbers, min_size=size, max_size=size)
    given_rows = [np.array(data.draw(column), NUMPY[dtype]) for _ in range(rows)]
    gram = Gram([0.0] * rows)
    gram.add(given_rows)
    expected = exact([[row] for row in given_rows])
    found = distances([gram])
    assert [[found.square(i, j) for j in range(rows)] for i in range(rows)] == expected


def test_floats_and_integers_make_one_vector() -> None:
    floats = [np.array([0.0, 3.0], np.float32), np.array([4.0, 3.0], np.float32)]
    gram = Gram([3.0, 5.0])
    gram.add(floats)
    gram.add([np.array([2**40]), np.array([2**40 + 3])])
    gram.add([np.array([True]), np.array([False])])
    assert distances([gram]).square(0, 1) == 16 + 9 + 1


@pytest.mark.slow
@given(
    st.sampled_from(sorted(FLOATS)),
    st.lists(st.integers(1, 9_000), max_size=5),
    st.integers(1, 5),
    st.randoms(use_true_random=False),
)
def test_no_cut_no_order_and_no_number_of_workers_changes_a_byte(
    dtype: Dtype, cuts: list[int], workers: int, random: Any
) -> None:
    floats, counts = some_floats(dtype, 5, 9_001, 3), list(np.arange(50).reshape(5, 10) ** 9)
    norms = [norm_of(row) for row in floats]
    whole = Gram(norms)
    whole.add(floats)
    whole.add(counts)
    edges = sorted({0, *cuts, 9_001})
    pieces = [[row[a:b] for row in floats] for a, b in pairwise(edges)]
    pieces += [[row[:3] for row in counts], [row[3:] for row in counts]]
    random.shuffle(pieces)
    grams = [Gram(norms) for _ in range(workers)]
    for at, piece in enumerate(pieces):
        grams[at % workers].add(piece)
    total = Gram(norms)
    for gram in grams:
        total.merge(Gram.from_bytes(gram.to_bytes()))
    assert total.to_bytes() == whole.to_bytes()
    assert distances(grams) == distances([whole])


def test_carrying_on_for_many_blocks_changes_nothing() -> None:
    rows = some_floats(Dtype.F64, 2, 300, 5)
    one, many = Gram([norm_of(row) for row in rows]), Gram([norm_of(row) for row in rows])
    one.add(rows)
    for at in range(300):
        many.add([row[at : at + 1] for row in rows])
    assert many.to_bytes() == one.to_bytes()


_PROGRAM = """
import json, sys
import numpy as np
from services.aggregator.rules.gram import Gram
random = np.random.default_rng(5)
rows = list((random.standard_normal((40, 9_000)) * 10.0 ** random.integers(-8, 3, (40, 9_000))).astype("f4"))
gram = Gram([float(np.sqrt((row.astype("f8") ** 2).sum())) for row in rows])
gram.add(rows)
gram.add(list(random.integers(-2**63, 2**63 - 1, (40, 5_000))))
json.dump(gram.to_bytes().hex(), sys.stdout)
"""


def measured(**environment: str) -> str:
    found = subprocess.run(
        [sys.executable, "-c", _PROGRAM], env={**os.environ, **environment}, capture_output=True, check=True
    )
    return str(json.loads(found.stdout))


@pytest.mark.slow
def test_neither_the_processor_nor_threads_change_a_byte() -> None:
    usual = measured()
    assert measured(OPENBLAS_NUM_THREADS="1", NPY_DISABLE_CPU_FEATURES="X86_V4") == usual
    assert measured(OPENBLAS_NUM_THREADS="3", OPENBLAS_CORETYPE="Nehalem") == usual
    assert measured(OPENBLAS_CORETYPE="Haswell", NPY_DISABLE_CPU_FEATURES="X86_V3 X86_V4") == usual


@pytest.mark.parametrize("row", [[1.0, 1.0], [np.inf, 0.0], [np.nan, 0.0]])
def test_a_row_longer_than_was_told_is_noticed(row: list[float]) -> None:
    gram = Gram([0.5, 2.0])
    with np.errstate(all="ignore"), pytest.raises(ValueError, match="row 0 is longer"):
        gram.add([np.array(row), np.array([1.0, 1.0])])


def test_a_row_too_long_in_many_pieces_is_noticed() -> None:
    gram = Gram([1.0])
    for _ in range(5):  # the norm is taken to the next power of two, and some rounding is allowed for
        gram.add([np.array([1.0])])
    with pytest.raises(ValueError, match="row 0 is longer"):
        gram.add([np.array([1.0])])


@pytest.mark.parametrize(
    "pieces", [[np.zeros(2)], [np.zeros(2), np.zeros(1)], [np.zeros(2), np.zeros(2, np.float32)]]
)
def test_pieces_that_do_not_belong_together_are_turned_away(pieces: list[Row]) -> None:
    with pytest.raises(ValueError, match="differ"):
        Gram([1.0, 1.0]).add(pieces)


def a_gram(norms: Iterable[float] = (1.0, 2.0)) -> Gram:
    return Gram(list(norms))


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        bytes(16),
        a_gram().to_bytes()[:-1],
        a_gram().to_bytes() + b"\0",
        a_gram().to_bytes()[:-1] + b"\1",
        b"WarrenG2" + a_gram().to_bytes()[8:],
    ],
)
def test_bytes_that_are_no_gram_are_refused(broken: bytes) -> None:
    with pytest.raises(MalformedGram):
        Gram.from_bytes(broken)


def test_inner_products_of_other_rows_do_not_add_up() -> None:
    with pytest.raises(MalformedGram):
        a_gram().merge(a_gram([1.0, 5.0]))
    with pytest.raises(NoUpdates):
        distances([])
    with pytest.raises(NoUpdates):
        a_gram([])


points = st.lists(st.integers(-20, 20), min_size=3, max_size=12)


def between(places: Sequence[int]) -> Distances:
    return Distances(0, tuple(tuple((a - b) ** 2 for b in places) for a in places))


def krum_scores(places: Sequence[int], f: int) -> list[int]:
    n = len(places)
    others = [sorted((a - b) ** 2 for j, b in enumerate(places) if j != i) for i, a in enumerate(places)]
    return [sum(each[: max(1, n - f - 2)]) for each in others]


def paper(places: dict[int, int], f: int) -> list[int]:
    """Bulyan's first stage: Krum again and again over those that are left."""
    left = dict(places)
    chosen: list[int] = []
    while len(chosen) < len(places) - 2 * f:
        clients = sorted(left)
        found = krum_scores([left[client] for client in clients], f)
        best = clients[found.index(min(found))]
        chosen.append(best)
        del left[best]
    return sorted(chosen)


def ids(numbers: Iterable[int]) -> tuple[ClientId, ...]:
    return tuple(a_client(number) for number in sorted(numbers))


@given(points, st.integers(0, 12))
def test_a_score_is_the_sum_to_the_nearest_others(places: list[int], f: int) -> None:
    assert scores(between(places), f) == krum_scores(places, f)


@given(st.integers(0, 3), st.data())
def test_bulyan_chooses_one_by_one_as_in_the_paper_or_all_at_once(f: int, data: st.DataObject) -> None:
    least = 4 * f + 3
    drawn = data.draw(st.lists(st.integers(-9, 9), min_size=least, max_size=least + 5))
    places = dict(enumerate(drawn))
    clients = data.draw(st.permutations(sorted(places)))
    far = between([places[client] for client in clients])
    row_ids = [a_client(client) for client in clients]
    assert choose(Bulyan(f=f), row_ids, far) == ids(paper(places, f))
    found = krum_scores(drawn, f)
    at_once = sorted(places, key=lambda client: (found[client], client))[: len(drawn) - 2 * f]
    assert choose(Bulyan(f=f, selection=Selection.SINGLE_PASS), row_ids, far) == ids(at_once)


def test_krum_takes_the_lowest_score_and_of_equal_ones_the_lowest_client() -> None:
    clients = [a_client(number) for number in (4, 3, 2, 1)]
    assert choose(Krum(f=0), clients, between([0, 1, 1, 50])) == ids([2])
    assert choose(MultiKrum(f=0, k=3), clients, between([0, 1, 1, 50])) == ids([2, 3, 4])
    assert krum_order(clients, between([0, 0, 0, 0]), f=1) == [3, 2, 1, 0]


def test_ids_are_compared_as_they_are_sorted_in_plans() -> None:
    clients = [ClientId(UUID(int=number)) for number in (2**127, 2**64, 1)]
    assert choose(MultiKrum(f=0, k=2), clients, between([7, 7, 7])) == (clients[2], clients[1])


def test_garbage_is_not_chosen() -> None:
    random = np.random.default_rng(1)
    rows = list(random.standard_normal((11, 50)).astype(np.float32) * 0.1 + 1)
    rows[2], rows[5] = rows[2] * np.float32(-1e12), rows[5] + 30
    gram = Gram([norm_of(row) for row in rows])
    gram.add(rows)
    clients = [a_client(number) for number in range(11)]
    strategies: list[Chooser] = [Krum(f=2), MultiKrum(f=2, k=7), Bulyan(f=2)]
    for strategy in strategies:
        assert not {clients[2], clients[5]} & set(choose(strategy, clients, distances([gram])))


def test_too_few_and_too_many_are_refused() -> None:
    with pytest.raises(TooFewUpdates):
        choose(Bulyan(f=1), ids(range(6)), between(range(6)))
    many = range(1_025)
    with pytest.raises(TooManyUpdates):
        choose(Krum(), ids(many), Distances(0, tuple(() for _ in many)))
    with pytest.raises(ValueError, match="3 clients and 2 rows"):
        choose(Krum(), ids(range(3)), between([1, 2]))
