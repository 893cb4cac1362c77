"""The robustness example: what a site sends that is no update, and which rules hold against it."""

from pathlib import Path

import pytest
import torch

from examples.robustness.__main__ import rules_for
from examples.robustness.attacks import ATTACKS, FLIPPED, Attack, Tensors, flipped, noise
from examples.robustness.federation import Federation, Rule, federation

pytestmark = pytest.mark.slow

MODEL: Tensors = {"w": torch.ones(100), "n": torch.tensor(3)}
TRAINED: Tensors = {"w": torch.full((100,), 1.5), "n": torch.tensor(9)}


@pytest.fixture
def sites(tmp_path: Path) -> Federation:
    return federation(5, 7, tmp_path)


def test_a_flipped_update_goes_the_other_way_and_further() -> None:
    sent = flipped(MODEL, TRAINED)
    assert torch.equal(sent["w"], torch.full((100,), 1 - FLIPPED * 0.5))


@pytest.mark.parametrize("attack", [flipped, noise])
def test_garbage_is_well_formed_and_finite(attack: Attack) -> None:
    sent = attack(MODEL, TRAINED)
    assert {name: (t.dtype, t.shape) for name, t in sent.items()} == {
        name: (t.dtype, t.shape) for name, t in MODEL.items()
    }
    assert all(bool(torch.isfinite(tensor).all()) for tensor in sent.values())
    assert not torch.equal(sent["w"], TRAINED["w"])
    assert torch.equal(sent["n"], TRAINED["n"])


def test_bulyan_takes_part_where_there_are_seven_sites() -> None:
    assert [rule.strategy for rule in rules_for(7)][-1] == "Bulyan"
    assert "Bulyan" not in [rule.strategy for rule in rules_for(6)]


def test_the_mean_fails_and_the_median_holds(sites: Federation) -> None:
    assert sites.accuracy(Rule("FedAvg"), ATTACKS["noise"], 2) < 0.5
    assert sites.accuracy(Rule("FedMedian"), ATTACKS["noise"], 2) > 0.9


def test_the_same_seed_gives_the_same_accuracy(sites: Federation) -> None:
    first, second = (sites.accuracy(Rule("Krum"), ATTACKS["noise"], 1) for _ in range(2))
    assert first == second
