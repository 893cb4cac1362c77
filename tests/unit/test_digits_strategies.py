"""The digits example with strategies that ask more of a site than trained weights."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from agents.client.results import expected_of
from examples.digits import data
from examples.digits.learning import Batch, Descent, Options, evaluate, fit, make_repeatable
from examples.digits.model import DigitsNet, initial_model
from examples.digits.strategies import Task, Tensors, difference, learn, own_control, proximal
from infra.weights.files import read_layout
from schemas.words import Extra, UpdateKind
from tests.unit.client.builders import to_train

SITES = ("ana", "ben", "cleo", "dan")
DIGITS = data.load_digits()
SPLIT = data.split(DIGITS.labels, SITES, seed=7, alpha=0.5)
QUICK = Options(local_epochs=1, learning_rate=0.1)


def images(rows: data.Rows) -> Batch:
    grey = torch.from_numpy(DIGITS.images[rows]).to(torch.float32).div(16).unsqueeze(1)
    return Batch(images=grey, labels=torch.from_numpy(DIGITS.labels[rows]))


def the_model(weights: Tensors | None = None) -> DigitsNet:
    """The same draws follow, whatever was drawn before."""
    net = initial_model(7)
    if weights:
        net.load_state_dict(weights)
    make_repeatable("a test")
    return net


@pytest.fixture
def ana() -> Batch:
    return images(SPLIT.train["ana"])


def a_task(folder: Path, **told: object) -> Task:
    return Task(**{"round": 0, "state_dir": folder, **told})  # type: ignore[arg-type]  # a test's shorthand


def test_without_wishes_the_update_is_what_training_left(tmp_path: Path, ana: Batch) -> None:
    loss = fit(plain := the_model(), ana, QUICK)
    tensors, same_loss = learn(the_model(), ana, QUICK, a_task(tmp_path))
    assert same_loss == loss
    assert {name: tensor.tolist() for name, tensor in tensors.items()} == {
        name: tensor.tolist() for name, tensor in plain.state_dict().items()
    }


def test_fedprox_pulls_each_step_back_to_the_weights_that_were_given() -> None:
    line = nn.Linear(2, 1, bias=False)
    descent = proximal(line, mu=0.5)
    with torch.no_grad():
        line.weight += torch.tensor([[2.0, -4.0]])
    (pulled,) = descent.correct([torch.tensor([[1.0, 1.0]])])
    assert torch.allclose(pulled, torch.tensor([[2.0, -1.0]]))


def test_the_larger_mu_is_the_nearer_a_site_stays(tmp_path: Path, ana: Batch) -> None:
    def moved(mu: float) -> float:
        options = Options(local_epochs=1, learning_rate=0.02, mu=mu)
        tensors, _ = learn(the_model(), ana, options, a_task(tmp_path))
        given = the_model().state_dict()["classifier.weight"]
        return float((tensors["classifier.weight"] - given).norm())

    assert moved(0.0) > moved(1.0) > moved(4.0) > 0


def test_a_delta_and_the_weights_that_were_given_make_the_trained_ones(tmp_path: Path, ana: Batch) -> None:
    trained, _ = learn(the_model(), ana, QUICK, a_task(tmp_path))
    delta, _ = learn(the_model(), ana, QUICK, a_task(tmp_path, update_kind="delta"))
    for name, given in the_model().state_dict().items():
        assert torch.allclose(given + delta[name], trained[name], atol=1e-6)
        assert delta[name].dtype == given.dtype


def test_integers_wrap_around_in_a_difference_and_booleans_tell_whether_they_changed() -> None:
    before = {"count": torch.tensor(200, dtype=torch.uint8), "mask": torch.tensor([True, False, True])}
    after = {"count": torch.tensor(3, dtype=torch.uint8), "mask": torch.tensor([True, True, False])}
    change = difference(after | {"control/x": torch.ones(1)}, before)
    assert change["count"] == (3 - 200) % 256
    assert change["mask"].tolist() == [False, True, True]
    assert set(change) == {"count", "mask"}


@pytest.mark.parametrize("extra", list(Extra))
@pytest.mark.parametrize("kind", list(UpdateKind))
def test_every_update_is_what_an_agent_takes(
    tmp_path: Path, ana: Batch, extra: Extra, kind: UpdateKind
) -> None:
    tensors, _ = learn(the_model(), ana, QUICK, a_task(tmp_path, extra=extra.value, update_kind=kind.value))
    save_file(the_model().state_dict(), model := tmp_path / "model")
    save_file(tensors, update := tmp_path / "update")
    found = read_layout(update)
    assert found.header == expected_of(to_train(extra=extra), found, read_layout(model)).header


def test_extra_tensors_nobody_has_heard_of_fail_with_their_name(tmp_path: Path, ana: Batch) -> None:
    with pytest.raises(ValueError, match="no extra tensors called 'third_moment'"):
        learn(the_model(), ana, QUICK, a_task(tmp_path, extra="third_moment"))


def test_after_a_single_step_a_control_is_the_gradient_at_the_weights_that_were_given(
    tmp_path: Path, ana: Batch
) -> None:
    one_step = Options(local_epochs=1, batch_size=len(ana.labels), learning_rate=0.1)
    state = {name: torch.full_like(weight, 0.01) for name, weight in the_model().named_parameters()}
    seen: list[Tensor] = []

    def look(gradients: object) -> list[Tensor]:
        assert isinstance(gradients, tuple)
        seen.extend(gradients)
        return list(gradients)

    fit(the_model(), ana, one_step, Descent(correct=look))
    learn(the_model(), ana, one_step, a_task(tmp_path, extra="control", state=state))
    own = own_control(a_task(tmp_path, round=1))
    for name, gradient in zip(state, seen, strict=True):
        assert torch.allclose(own[name], gradient, atol=1e-5), name


def a_round(model: Tensors, control: Tensors, number: int, folder: Path) -> tuple[Tensors, Tensors]:
    """SCAFFOLD over all sites, and the aggregator's part of it with lr 1: means of models and of changes."""
    updates = []
    for site in SITES:
        (folder / site).mkdir(exist_ok=True)
        task = a_task(folder / site, round=number, extra="control", state=control or None)
        updates.append(learn(the_model(model), images(SPLIT.train[site]), QUICK, task)[0])
    mean = {name: torch.stack([each[name].double() for each in updates]).mean(0) for name in updates[0]}
    floats = [name for name, tensor in model.items() if tensor.is_floating_point()]
    changed = {name: control.get(name, 0) + mean[f"control/{name}"].float() for name in floats}
    return {name: mean[name].to(tensor.dtype) for name, tensor in model.items()}, changed


def test_scaffold_learns_and_the_common_control_stays_the_mean_of_the_sites_own(tmp_path: Path) -> None:
    model: Tensors = the_model().state_dict()
    control: Tensors = {}
    heldout = images(SPLIT.heldout)
    before = evaluate(the_model(model), heldout)
    for number in range(4):
        model, control = a_round(model, control, number, tmp_path)
        owns = [own_control(a_task(tmp_path / site, round=number + 1)) for site in SITES]
        for name in owns[0]:
            mean = torch.stack([own[name] for own in owns]).mean(0)
            assert torch.allclose(control[name], mean, atol=1e-5), name
    assert any(control[name].abs().max() > 1e-3 for name in owns[0])
    assert not any(control[name].any() for name in control if "running" in name)
    after = evaluate(the_model(model), heldout)
    assert after.loss < before.loss / 2
    assert after.accuracy > 0.7


def test_a_round_that_is_run_again_starts_from_the_same_control_and_old_ones_go(tmp_path: Path) -> None:
    model: Tensors = the_model().state_dict()
    rounds = []
    for number in (0, 1, 2, 2, 3):
        _, control = a_round(model, {}, number, tmp_path)
        rounds.append({name: tensor.tolist() for name, tensor in control.items()})
    assert rounds[2] == rounds[3]
    assert rounds[2] != rounds[1]
    kept = sorted(path.stem for path in (tmp_path / "ana").iterdir())
    assert kept == ["control-0000002", "control-0000003"]


def test_swag_takes_means_of_weights_and_squares_along_the_way(tmp_path: Path, ana: Batch) -> None:
    options = Options(local_epochs=1, swag_samples=3)
    seen: list[Tensor] = []
    net = the_model()
    fit(net, ana, options, Descent(after_step=lambda: seen.append(net.classifier.weight.detach().clone())))
    tensors, _ = learn(the_model(), ana, options, a_task(tmp_path, extra="second_moment"))
    points = torch.stack([seen[2], seen[5], seen[8]]).double()  # of 9 steps
    assert len(seen) == 9
    assert torch.equal(tensors["classifier.weight"], points.mean(0).float())
    squares = tensors["second_moment/classifier.weight"]
    assert torch.allclose(squares, points.square().mean(0).float(), rtol=1e-6)
    assert tensors["features.1.num_batches_tracked"] == 9


@pytest.mark.parametrize("samples", [1, 1_000])
def test_swag_needs_neither_many_points_nor_many_steps(tmp_path: Path, ana: Batch, samples: int) -> None:
    options = Options(local_epochs=1, swag_samples=samples)
    tensors, _ = learn(the_model(), ana, options, a_task(tmp_path, extra="second_moment"))
    first, second = tensors["classifier.weight"], tensors["second_moment/classifier.weight"]
    spread = second - first.square()
    assert (spread.abs().max() > 1e-5) == (samples > 1)
    assert spread.min() > -1e-6
