"""The digits example: who gets which image, and the script a site runs."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from examples.digits import data

EXAMPLE = Path(data.__file__).parent
SITES = ("ana", "ben", "cleo", "dan")
LABELS = data.load_digits().labels

Act = Callable[..., dict[str, object]]


def a_split(*, seed: int = 7, sites: tuple[str, ...] = SITES, alpha: float = 0.5) -> data.Split:
    return data.split(LABELS, sites, seed=seed, alpha=alpha)


def test_the_same_seed_deals_the_same_images_and_another_seed_others() -> None:
    first, again, other = a_split(), a_split(), a_split(seed=8)
    assert all(np.array_equal(first.train[site], again.train[site]) for site in SITES)
    assert all(np.array_equal(first.test[site], again.test[site]) for site in SITES)
    assert not np.array_equal(first.heldout, other.heldout)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), sites=st.integers(1, 8))
def test_every_image_is_held_out_or_at_exactly_one_site(seed: int, sites: int) -> None:
    parts = a_split(seed=seed, sites=tuple(f"site-{number}" for number in range(sites)), alpha=1.0)
    dealt = np.concatenate([parts.heldout, *parts.train.values()])
    assert np.array_equal(np.sort(dealt), np.arange(len(LABELS)))
    assert min(map(len, parts.train.values())) >= data.SMALLEST_SITE


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_sites_share_the_held_out_images_evenly(seed: int) -> None:
    parts = a_split(seed=seed)
    sizes = [len(rows) for rows in parts.test.values()]
    assert np.array_equal(np.sort(np.concatenate(list(parts.test.values()))), parts.heldout)
    assert max(sizes) - min(sizes) <= 1


def test_a_fifth_of_every_class_is_held_out() -> None:
    heldout = np.bincount(LABELS[a_split().heldout], minlength=10)
    assert np.all(np.abs(heldout - 0.2 * np.bincount(LABELS)) <= 0.5)


def test_sites_differ_in_what_they_see() -> None:
    seen = np.array([np.bincount(LABELS[rows], minlength=10) for rows in a_split().train.values()])
    largest_share = seen.max(axis=0) / seen.sum(axis=0)
    assert largest_share.mean() > 0.4, "an even deal gives each of four sites a quarter of a class"


def test_a_split_that_starves_a_site_is_refused_with_the_way_out() -> None:
    with pytest.raises(ValueError, match="take fewer sites or a larger alpha"):
        a_split(sites=tuple(map(str, range(200))), alpha=0.01)


@pytest.fixture
def act(tmp_path: Path) -> Act:
    """Runs an action of the script as an agent does, on data and a model made for it."""
    data.write(tmp_path, data.load_digits(), a_split())
    _run("initial.py", "--out", str(tmp_path / "model"))
    (tmp_path / "config").write_text(json.dumps({"local_epochs": 1, "seed": 7}))

    def run(action: str, model: str, round_: int = 0, **told: str) -> dict[str, object]:
        files = {
            "WARREN_MODEL_IN": model,
            "WARREN_UPDATE_OUT": "update",
            "WARREN_RESULT_OUT": "result",
            "WARREN_CONFIG": "config",
            "WARREN_STATE_DIR": "",
            "DIGITS_DATA": "ana",
        }
        environment = {name: str(tmp_path / file) for name, file in files.items()}
        named = ("--training-id", "t", "--round", str(round_), "--model-id", "m")
        imported = _run("site.py", action, *named, **environment, **told, PYTHONPROFILEIMPORTTIME="1")
        assert "torch._dynamo" not in imported, "importing torch's compiler costs every task a second"
        answer: dict[str, object] = json.loads((tmp_path / "result").read_text())
        return answer

    return run


@pytest.mark.integration
def test_the_script_trains_and_tests_and_repeats_itself_to_the_bit(act: Act, tmp_path: Path) -> None:
    trained = act("train", "model")
    once = (tmp_path / "update").read_bytes()
    assert act("train", "model") == trained
    assert (tmp_path / "update").read_bytes() == once
    assert trained["num_examples"] == len(a_split().train["ana"])

    tested = act("test", "update")
    assert tested["num_examples"] == len(a_split().test["ana"])
    assert isinstance(tested["metrics"], dict)
    assert set(tested["metrics"]) == {"loss", "accuracy"}


@pytest.mark.integration
def test_the_script_sends_what_it_is_asked_for_beside_its_weights(act: Act, tmp_path: Path) -> None:
    wishes = {"WARREN_UPDATE_KIND": "delta", "WARREN_EXTRA": "control"}
    act("train", "model", **wishes)
    model, first = load_file(tmp_path / "model"), load_file(tmp_path / "update")
    floats = {name for name, tensor in model.items() if tensor.dtype == np.float32}
    assert set(first) == set(model) | {f"control/{name}" for name in floats}
    assert first["features.1.num_batches_tracked"] == 9, "a delta: of the batches too"

    control = {name: first[f"control/{name}"] for name in floats}  # what one site alone makes of it
    save_file(control, tmp_path / "control")
    act("train", "model", 1, **wishes, WARREN_STATE_IN=str(tmp_path / "control"))
    second = load_file(tmp_path / "update")
    assert not np.array_equal(first["control/classifier.bias"], second["control/classifier.bias"])
    assert len(list(tmp_path.glob("control-*"))) == 2


def _run(script: str, *arguments: str, **environment: str) -> str:
    """What the script said on stderr."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLE / script), *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr
