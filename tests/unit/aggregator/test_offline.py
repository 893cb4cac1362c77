"""A round over files: what comes of it, what is refused, and that nothing is written unless all is well."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors.numpy import load_file, save_file

from schemas.offline import OfflineDone, OfflineRound, OfflineUpdate
from schemas.refusal import Refusal
from schemas.words import UpdateKind
from services.aggregator.offline.over_files import run

Arrays = dict[str, NDArray[Any]]

W, U1, U2, U3 = ({"w": np.array([x, 2 * x], "f4"), "n": np.array([x], "i8")} for x in (1, 3, 5, 100))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    save_file(W, "w.safetensors")
    for name, arrays in (("u1", U1), ("u2", U2), ("u3", U3)):
        save_file(arrays, f"{name}.safetensors")
    return tmp_path


def told(name: str, num_examples: int = 1, **more: Any) -> OfflineUpdate:
    return OfflineUpdate(file=f"{name}.safetensors", num_examples=num_examples, **more)


def a_round(*updates: OfflineUpdate, **more: Any) -> OfflineDone:
    chosen = updates or (told("u1"), told("u2"))
    return run(OfflineRound(**{"current": "w.safetensors", "out": "new.safetensors", **more}, updates=chosen))


def made() -> list[Any]:
    return [array.tolist() for _, array in sorted(load_file("new.safetensors").items(), reverse=True)]


def refusal(*updates: OfflineUpdate, **more: Any) -> str:
    """The sentence; and nothing has been written."""
    before = sorted(Path().rglob("*"))
    with pytest.raises(Refusal) as refused:
        a_round(*updates, **more)
    assert sorted(Path().rglob("*")) == before
    return str(refused.value)


def test_updates_become_their_mean_weighted_by_examples() -> None:
    done = a_round(told("u1", 3), told("u2", 1))
    assert made() == [[3.5, 7.0], [4]]  # 3.5 is rounded to the even one
    assert (done.round, done.strategy.name, done.model.file) == (0, "FedAvg", "new.safetensors")
    assert [(each.client_id.int, each.num_examples, each.is_chosen) for each in done.updates] == [
        (1, 3, True),
        (2, 1, True),
    ]


def test_files_in_another_order_or_with_metadata_are_the_same_updates() -> None:
    first = a_round().model.sha256
    save_file(dict(reversed(U1.items())), "u1.safetensors", metadata={"format": "pt"})
    save_file(W, "w.safetensors", metadata={"by": "ana"})
    assert a_round().model.sha256 == first


@pytest.mark.parametrize("shard_bytes", [8, 16, 1 << 20])
def test_the_model_is_the_same_however_it_is_cut(shard_bytes: int) -> None:
    assert a_round(shard_bytes=shard_bytes).model.sha256 == a_round().model.sha256


def test_clients_have_names_or_ids_and_may_be_weighed_under_them() -> None:
    options = {"client_weights": {"ana": 0.5}}
    a_round(told("u1", 2, client="ana"), told("u2", 1, client="ben"), options=options)
    assert made()[0] == [4.0, 8.0]


def test_metrics_are_means_by_examples_of_those_who_told_them() -> None:
    done = a_round(told("u1", 3, metrics={"loss": 1.0}), told("u2", 1, metrics={"loss": 2.0, "auc": 0.5}))
    assert done.metrics == {"auc": 0.5, "loss": 1.25}


def test_state_goes_on_from_round_to_round() -> None:
    options = {"server_lr": 1.0, "momentum": 0.5}
    first = a_round(strategy="FedAvgM", options=options, state_out="one")
    assert made()[0] == [4.0, 8.0]
    assert [part.slot for part in first.state] == ["momentum"]
    assert load_file("one/momentum.safetensors")["w"].tolist() == [-3.0, -6.0]
    second = a_round(
        strategy="FedAvgM", options=options, current="new.safetensors", state="one", state_out="two"
    )
    assert second.round == 1
    assert made()[0] == [5.5, 11.0]  # D = 0, so v is half of what it was
    note = json.loads(Path("two/state.json").read_text())
    assert (note["round"], note["model_sha256"]) == (1, second.model.sha256)


def test_without_a_state_a_round_starts_from_zeros() -> None:
    a_round(strategy="FedAvgM", state_out="one")
    first = Path("new.safetensors").read_bytes()
    a_round(strategy="FedAvgM")
    assert Path("new.safetensors").read_bytes() == first


def test_robust_rules_leave_out_who_is_far_away() -> None:
    done = a_round(told("u1"), told("u2"), told("u3"), strategy="Krum", options={"f": 1})
    assert [each.is_chosen for each in done.updates] == [True, False, False]
    assert made() == [[3.0, 6.0], [3]]


def test_a_rule_of_a_module_is_as_good_as_a_registered_one() -> None:
    a_round(strategy="tests.rules:damped", options={"share": 0.5})
    assert made()[0] == [2.5, 5.0]


def test_deltas_partial_updates_and_clipping_are_as_in_a_plan() -> None:
    save_file({"w": np.array([2, 0], "f4")}, "u1.safetensors")
    save_file({"n": np.array([4], "i8")}, "u2.safetensors")
    a_round(told("u1"), told("u2"), partial=True, update=UpdateKind.DELTA)
    assert made() == [[3.0, 2.0], [5]]
    a_round(told("u1"), told("u2"), partial=True, update=UpdateKind.DELTA, norm_clip=1.0)
    assert made() == [[2.0, 2.0], [5]]


def test_partial_updates_are_chosen_among_as_if_the_rest_had_stayed() -> None:
    save_file({"w": U2["w"]}, "u2.safetensors")
    updates = (told("u1"), told("u2"), told("u3"))
    done = a_round(*updates, strategy="Krum", options={"f": 1}, partial=True)
    assert [each.is_chosen for each in done.updates] == [True, False, False]


def test_controls_travel_beside_the_weights() -> None:
    for name, arrays in (("u1", U1), ("u2", U2)):
        save_file({**arrays, "control/w": np.array([1, 3], "f4")}, f"{name}.safetensors")
    done = a_round(strategy="SCAFFOLD", state_out="state")
    assert [part.slot for part in done.state] == ["control"]
    assert load_file("state/control.safetensors")["w"].tolist() == [1.0, 3.0]


def test_second_moments_are_taken_where_they_are() -> None:
    assert a_round(strategy="SWAG", state_out="without").state == ()
    for name, arrays in (("u1", U1), ("u2", U2)):
        save_file({**arrays, "second_moment/w": arrays["w"] ** 2}, f"{name}.safetensors")
    done = a_round(strategy="SWAG", state_out="with")
    assert [part.slot for part in done.state] == ["second_moment"]
    assert load_file("with/second_moment.safetensors")["w"].tolist() == [17.0, 68.0]


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"current": "no.safetensors"}, "no.safetensors: No such file or directory"),
        ({"out": "no/new.safetensors"}, "no/new.safetensors: No such file or directory"),
        ({"strategy": "FedSum"}, "there is no strategy 'FedSum' here; there are FedAvg"),
        ({"strategy": "tests.rules:no_such"}, "tests.rules has no no_such"),
        ({"strategy": "Krum", "options": {"f": 5}}, "Krum needs at least 7 updates and has 2"),
        ({"options": {"client_weights": {"3": 1.0}}, "state": "nowhere"}, None),
        ({"strategy": "FedAdam", "state": "nowhere"}, "nowhere/m.safetensors: No such file or directory"),
        ({"strategy": "QFedAvg"}, "has not told its 'loss'"),
    ],
)
def test_what_cannot_be_done_is_refused_and_leaves_no_trace(
    asked: dict[str, Any], sentence: str | None
) -> None:
    if sentence is None:
        assert a_round(**asked)
    else:
        assert sentence in refusal(**asked)


def test_options_that_are_wrong_are_refused() -> None:
    with pytest.raises(ValidationError, match="momentum"):
        a_round(strategy="FedAvgM", options={"momentum": 2})


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"w": U1["w"]}, "tensor 'n' is missing"),
        ({**U1, "x": U1["n"]}, "tensor 'x' is not part of it"),
        ({**U1, "w": U1["w"].astype("f8")}, "dtype F64, not F32"),
        ({**U1, "w": U1["w"].reshape(1, 2)}, "shape [1, 2], not [2]"),
        ({**U1, "w": np.array([1, np.nan], "f4")}, "NaN or an infinity"),
    ],
)
def test_an_update_that_is_none_is_refused_with_its_file(arrays: Arrays, sentence: str) -> None:
    save_file(arrays, "u2.safetensors")
    said = refusal()
    assert said.startswith("u2.safetensors: ")
    assert sentence in said


def test_a_model_with_a_nan_and_a_file_of_noise_are_refused() -> None:
    save_file({"w": np.array([np.inf], "f4")}, "w.safetensors")
    assert "w.safetensors: tensor 'w' has a NaN or an infinity" in refusal()
    save_file(W, "w.safetensors")
    Path("u1.safetensors").write_bytes(b"noise" * 10)
    assert "u1.safetensors: not a valid weights file" in refusal()


def test_a_client_has_one_update() -> None:
    assert "has more than one update" in refusal(told("u1", client="ana"), told("u2", client="ana"))


def test_a_state_goes_with_its_strategy_and_its_model() -> None:
    a_round(strategy="FedAdam", state_out="state", out="other.safetensors")
    assert "is of another strategy (FedAdam)" in refusal(strategy="FedYogi", state="state")
    assert "is of another model" in refusal(strategy="FedAdam", state="state")
    Path("state/state.json").unlink()
    assert a_round(strategy="FedAdam", state="state").round == 0
    Path("state/state.json").write_text("{")
    assert "state/state.json: it cannot be read" in refusal(strategy="FedAdam", state="state")


def test_a_place_that_cannot_be_written_leaves_the_others_as_they_were() -> None:
    Path("new.safetensors").mkdir()
    assert "new.safetensors: there is a folder" in refusal(strategy="FedAdam", state_out="state")
