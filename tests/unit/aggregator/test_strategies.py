"""Every strategy against its formulas on whole tensors, however the work is cut and read."""

from dataclasses import replace
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from infra.objects.memory import MemoryObjects
from infra.weights.layout import Dtype, Layout, Tensor, canonical
from infra.weights.parts import FLOATS
from schemas import strategies as s
from schemas.ids import ClientId
from schemas.words import UpdateKind
from services.aggregator.reducing.sources import Limits
from services.aggregator.work import Worker
from tests.reference import Arrays, Round, Sent, combined
from tests.unit.aggregator.examples import EXTRAS, RULES, STRATEGIES, values
from tests.unit.aggregator.rounds import Game, expected, files

pytestmark = pytest.mark.slow

NAMES = ("a.weight", "b.bias", "c.running_mean", "d", "e.running_var", "f")

dtypes = st.sampled_from([Dtype.F32, Dtype.F32, *Dtype])
layouts = st.lists(
    st.tuples(dtypes, st.lists(st.integers(0, 6), max_size=2).map(tuple)), min_size=1, max_size=len(NAMES)
).map(
    lambda drawn: canonical(
        Tensor(name, dtype, shape) for name, (dtype, shape) in zip(NAMES, drawn, strict=False)
    )
)
limits = st.builds(
    Limits,
    window=st.sampled_from([1, 100, 1 << 20]),
    all_rows=st.sampled_from([60, 300, 1 << 20]),
    loads=st.sampled_from([1, 64, 1 << 20]),
    chunks=st.sampled_from([1, 1 << 20]),
    least_chunk=st.sampled_from([1, 7, 1 << 20]),
    requests=st.sampled_from([0, 200]),
    batch=st.integers(1, 3),
    threads=st.integers(1, 3),
)


def arrays(random: np.random.Generator, tensors: Any, size: float = 1.0) -> Arrays:
    return {tensor.name: values(random, tensor, size) for tensor in tensors}


@st.composite
def rounds(draw: st.DrawFn, strategy: s.Strategy) -> Round:
    layout: Layout = draw(layouts)
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    extra = EXTRAS.get(type(strategy))
    may_be_special = not isinstance(strategy, s.FedDC)
    partial = may_be_special and draw(st.booleans())
    count = strategy.least_updates + draw(st.integers(0, 4))
    sent = []
    for client in range(count):
        size = draw(st.sampled_from([1.0, 1.0, 0.001, 100.0]))
        some = layout.tensors
        if partial:
            chosen = draw(st.sets(st.sampled_from(layout.tensors), min_size=1))
            some = tuple(tensor for tensor in layout.tensors if tensor in chosen)
        held = arrays(random, some, size)
        for tensor in some:
            if extra is not None and tensor.dtype in FLOATS:
                held[f"{extra}/{tensor.name}"] = values(random, tensor, size)
        examples = draw(st.integers(1, 9) | st.integers(1, 10**9))
        sent.append(Sent(ClientId(UUID(int=client + 1)), examples, held, loss=draw(st.floats(0, 5))))
    assume(
        not isinstance(strategy, s.FedAvg)
        or any(e.client.int > 1 for e in sent)
        or not strategy.client_weights
    )
    return Round(
        layout=layout,
        strategy=strategy,
        current=arrays(random, layout.tensors),
        sent=tuple(sent),
        update=draw(st.sampled_from(UpdateKind)) if may_be_special else UpdateKind.WEIGHTS,
        norm_clip=draw(st.sampled_from([None, 0.5, 3.0, 1e6])),
        extra=extra,
    )


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda strategy: repr(strategy)[:60])
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_a_round_has_the_bits_of_the_formulas_however_it_is_cut_and_read(
    strategy: s.Strategy, data: st.DataObject
) -> None:
    round_ = data.draw(rounds(strategy))
    shard_bytes = data.draw(st.integers(1, 30)) * 8
    objects = MemoryObjects()
    game = Game(objects, Worker(objects, RULES, data.draw(limits)), shard_bytes)
    state: Any = ()
    for number in range(data.draw(st.integers(1, 2))):
        round_ = replace(round_, number=number)
        round_, plan = game.plan(round_, game.model(round_), state)
        published = game.played(plan)
        assert files(objects, published) == expected(round_)
        model, kept = combined(round_)
        round_, state = replace(round_, current=model, state=kept), published.state
