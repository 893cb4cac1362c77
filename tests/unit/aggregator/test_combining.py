"""What holds beside the formulas: refusals, lost updates, repeats, memory, the same bits on any processor."""

import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from infra.objects.memory import MemoryObjects
from infra.objects.store import ObjectStat
from infra.plugins import CustomRule
from infra.weights.arrays import NUMPY
from infra.weights.layout import Dtype, Layout, Tensor, canonical
from schemas import commands as c
from schemas import reports as r
from schemas import strategies as s
from schemas.ids import ClientId
from schemas.reduction import ReducePlan
from services.aggregator.reducing.sources import Limits
from services.aggregator.rules.refusals import RuleUnknown
from services.aggregator.work import Worker
from tests.reference import Array, Arrays, Round, Sent, combined
from tests.rules import Damping
from tests.unit.aggregator.examples import RULES, STRATEGIES, a_round
from tests.unit.aggregator.rounds import EPOCH, Game, expected, file_of, files

SMALL = Limits(window=300, all_rows=900, loads=300, chunks=64, least_chunk=16)
SINGLE = canonical([Tensor("w", Dtype.F32, (2,))])
Lose = Callable[[MemoryObjects, str], None]


class Sleepy(MemoryObjects):
    """A store whose etags never change."""

    def stat(self, key: str) -> ObjectStat:
        return replace(super().stat(key), etag="always")


def a_game(objects: MemoryObjects | None = None, **rules: CustomRule) -> Game:
    objects = objects or MemoryObjects()
    return Game(objects, Worker(objects, {**RULES, **rules}, SMALL))


def sent_by(*rows: Arrays) -> tuple[Sent, ...]:
    return tuple(Sent(ClientId(UUID(int=k)), 10 + k, row) for k, row in enumerate(rows, 1))


def single(*rows: tuple[float, float], strategy: s.Strategy, layout: Layout = SINGLE, **more: Any) -> Round:
    """Of one tensor; the current model is all ones."""
    (tensor,) = layout.tensors
    arrays = [np.array(row, NUMPY[tensor.dtype]) for row in ((1, 1), *rows)]
    current, *sent = ({tensor.name: array} for array in arrays)
    return Round(layout, strategy, current, sent_by(*sent), **more)


def planned(game: Game, round_: Round) -> ReducePlan:
    return game.plan(round_, game.model(round_))[1]


def refusal(game: Game, plan: ReducePlan) -> str:
    """The code with which a shard is refused."""
    report = game.worker.reduce_shard(game.command(plan, c.ReduceShard, shard=0))
    assert isinstance(report, r.RoundRefused), report
    assert (report.round, report.epoch) == (plan.round, EPOCH)
    return report.code


def test_a_single_update_comes_back_bit_by_bit() -> None:
    game = a_game()
    round_ = single((-0.0, 1e-45), strategy=s.FedAvg(), norm_clip=10.0)
    assert files(game.objects, game.played(planned(game, round_)))[0] == file_of(
        SINGLE, round_.sent[0].arrays
    )


def test_half_precision_does_not_overflow_on_the_way() -> None:
    game, layout = a_game(), canonical([Tensor("w", Dtype.F16, (2,))])
    round_ = single(*[(65_504.0, -65_504.0)] * 9, strategy=s.FedAvg(), layout=layout)
    assert files(game.objects, game.played(planned(game, round_)))[0] == file_of(
        layout, round_.sent[0].arrays
    )


UPDATES = ((2.0, 3.0), (1.0, -1.0), (0.5, 0.5))


@pytest.mark.parametrize(
    ("strategy", "code"),
    [
        (s.FedAvg(client_weights={ClientId(UUID(int=k)): 0.0 for k in (1, 2, 3)}), "nothing_weighs"),
        (s.Bulyan(f=1), "too_few_updates"),
        (s.Krum(f=1), "not_chosen"),
        (s.FedAvgM(server_lr=1e300), "result_out_of_range"),
        (s.SCAFFOLD(lr=1e300), "result_out_of_range"),
    ],
)
def test_what_a_strategy_cannot_combine_is_refused(strategy: s.Strategy, code: str) -> None:
    game = a_game()
    assert refusal(game, planned(game, single(*UPDATES, strategy=strategy))) == code


@pytest.mark.parametrize(
    ("strategy", "clip", "changes", "code"),
    [
        (s.FedAvg(), 1.0, {"distance": None}, "not_measured"),
        (s.QFedAvg(), None, {"loss": None}, "no_loss"),
        (s.QFedAvg(), None, {"loss": -1.0}, "negative_loss"),
        (s.FedMedian(), None, {"client_id": ClientId(UUID(int=2))}, "client_twice"),
    ],
)
def test_updates_that_lack_what_the_strategy_needs_are_refused(
    strategy: s.Strategy, clip: float | None, changes: dict[str, Any], code: str
) -> None:
    game = a_game()
    plan = planned(game, single(*UPDATES, strategy=strategy, norm_clip=clip))
    first, *others = plan.updates
    changed = plan.model_copy(update={"updates": (first.model_copy(update=changes), *others)})
    assert refusal(game, changed) == code


def nan(current: Array, updates: Array, weights: Array, options: Damping) -> Array:
    return current * np.nan


def too_short(current: Array, updates: Array, weights: Array, options: Damping) -> Array:
    return current[1:]


def failing(current: Array, updates: Array, weights: Array, options: Damping) -> Array:
    raise LookupError("nothing here")


@pytest.mark.parametrize("function", [nan, too_short, failing])
def test_a_custom_rule_that_does_not_do_its_work_is_refused(function: Any) -> None:
    game = a_game(bad=CustomRule(function, Damping))
    plan = planned(game, single(*UPDATES, strategy=s.Custom(rule="bad")))
    assert refusal(game, plan) == "rule_misbehaved"


def test_a_custom_rule_that_this_worker_lacks_is_a_fault_another_may_have_it() -> None:
    game = a_game()
    plan = planned(game, single(*UPDATES, strategy=s.Custom(rule="elsewhere")))
    with pytest.raises(RuleUnknown, match="elsewhere"):
        game.worker.reduce_shard(game.command(plan, c.ReduceShard, shard=0))


def deleted(objects: MemoryObjects, key: str) -> None:
    objects.delete(key)


def changed(objects: MemoryObjects, key: str) -> None:
    content = bytearray(objects._content(key))
    content[-1] ^= 1  # of the mask, which is in the last window
    objects.put(key, [bytes(content)], len(content))


def cut_short(objects: MemoryObjects, key: str) -> None:
    content = objects._content(key)
    objects.put(key, [content[:-1]], len(content) - 1)


@pytest.mark.parametrize("lose", [deleted, changed, cut_short])
@pytest.mark.parametrize("store", [MemoryObjects, Sleepy])
@pytest.mark.parametrize(
    "strategy",
    [s.FedAvg(), s.FedAdam(), s.FedMedian(), s.SCAFFOLD(), s.Krum(f=1)],
    ids=lambda each: each.name,
)
def test_a_lost_update_is_named_before_anything_is_stored(
    strategy: s.Strategy, store: type[MemoryObjects], lose: Lose
) -> None:
    objects = store()
    game = replace(a_game(objects), shard_bytes=1 << 20)
    plan = planned(game, a_round(strategy))
    lose(objects, plan.updates[2].key)
    kind = c.MeasureShard if strategy.chooses else c.ReduceShard
    command = game.command(plan, kind, shard=0)
    before = set(objects.keys(""))
    work = game.worker.measure_shard if strategy.chooses else game.worker.reduce_shard
    report = work(command)
    assert isinstance(report, r.UpdateLost), report
    assert (report.client_id, report.epoch) == (plan.updates[2].client_id, EPOCH)
    assert set(objects.keys("")) == before


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda strategy: repr(strategy)[:50])
def test_a_second_worker_writes_the_same_bytes_to_the_same_keys(strategy: s.Strategy) -> None:
    game = a_game()
    round_, plan = game.plan(round_ := a_round(strategy), game.model(round_))
    published = game.played(plan)
    stored = {key: game.objects.stat(key).etag for key in game.objects.keys("")}
    assert replace(game, worker=Worker(game.objects, RULES)).played(plan) == published
    assert {key: game.objects.stat(key).etag for key in game.objects.keys("")} == stored
    assert files(game.objects, published) == expected(round_)


def test_an_optimiser_goes_on_with_the_state_of_the_round_before() -> None:
    """And with what nobody has sent nothing happens, neither to the weights nor to the state."""
    game = a_game()
    first = a_round(s.FedAdam())
    first, plan = game.plan(first, game.model(first))
    published = game.played(plan)
    model, state = combined(first)
    without = tuple(replace(e, arrays={k: v for k, v in e.arrays.items() if k != "w"}) for e in first.sent)
    second = replace(first, number=1, current=model, state=state, sent=without)
    second, plan = game.plan(second, game.model(second), published.state)
    found = files(game.objects, game.played(plan))
    assert found == expected(second)
    after, moments = combined(second)
    assert (after["w"] == model["w"]).all()
    assert all((moments[slot]["w"] == state[slot]["w"]).all() for slot in state)


@pytest.mark.slow
def test_the_bits_do_not_depend_on_what_the_processor_can_do() -> None:
    def told(**environment: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "tests.unit.aggregator.same_bits"],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=True,
            timeout=100,
        ).stdout

    plain = told()
    assert len(plain.splitlines()) == len(STRATEGIES) + 1
    found = plain.splitlines()[0].split()
    poor = told(NPY_DISABLE_CPU_FEATURES=" ".join(found), OPENBLAS_CORETYPE="Prescott")
    assert poor.splitlines()[0].split() == []
    assert poor.splitlines()[1:] == plain.splitlines()[1:]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", [s.FedAvg(), s.FedAdam(), s.FedMedian()], ids=lambda s: s.name)
def test_memory_does_not_grow_with_the_number_of_updates(strategy: s.Strategy) -> None:
    layout = canonical([Tensor("w", Dtype.F32, (200_000,))])

    def peak(clients: int) -> int:
        limits = Limits(window=1 << 19, all_rows=1 << 19, loads=1 << 20, chunks=1 << 20)
        objects = MemoryObjects()
        game = Game(objects, Worker(objects, limits=limits), 1 << 20)
        row = {"w": np.ones(200_000, np.float32)}
        plan = planned(game, Round(layout, strategy, row, sent_by(*[row] * clients)))
        command = game.command(plan, c.PublishModel, model=plan.current, shards=())
        tracemalloc.start()
        game.worker.publish_model(command)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    assert peak(48) <= 1.2 * peak(8)
