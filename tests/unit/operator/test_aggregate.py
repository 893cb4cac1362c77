"""`warren aggregate`: from the command line to files, where no server runs."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from agents.operator.__main__ import main

Warren = Callable[..., tuple[int, str, str]]


@pytest.fixture
def warren(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Warren:
    """With a model and two updates at hand."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(
            sys, "argv", ["warren", "aggregate", "--current", "w.st", "--out", "new.st", *arguments]
        )
        with pytest.raises(SystemExit) as ended:
            main()
        said, complained = capfd.readouterr()
        return int(ended.value.code or 0), said, complained

    monkeypatch.chdir(tmp_path)
    for name, value in (("w", 0), ("u1", 2), ("u:2", 4)):
        save_file({"w": np.array([value], "f4")}, f"{name}.st")
    return run


def test_a_round_is_done_and_told_as_json(warren: Warren) -> None:
    code, said, _ = warren(
        *("--update", "u1.st:3"), *("--update", 'u:2.st:1:ben:{"loss": 0.5, "auc": 1}'), "--json"
    )
    assert code == 0
    told = json.loads(said)
    assert (told["strategy"]["name"], told["round"], told["metrics"]) == (
        "FedAvg",
        0,
        {"auc": 1, "loss": 0.5},
    )
    assert [each["num_examples"] for each in told["updates"]] == [3, 1]
    assert load_file("new.st")["w"].tolist() == [2.5]


def test_a_round_is_told_to_people_too(warren: Warren) -> None:
    code, said, _ = warren("--update", "u1.st:3", "--strategy", "FedAvgM", "--state-out", "state")
    assert code == 0
    assert "round 1 by FedAvgM: new.st sha256 " in said
    assert "state momentum: state/momentum.safetensors" in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--update", "u1.st"), "--update takes FILE:EXAMPLES[:CLIENT[:METRICS]], not 'u1.st'"),
        (("--update", "u1.st:0"), "num_examples: Input should be greater than or equal to 1"),
        (("--update", "u1.st:1:ana:{loss}"), "its metrics are no JSON object"),
        (("--update", "u1.st:1", "--options", "[]"), "--options takes a JSON object"),
        (("--update", "u1.st:1", "--options", '{"cap": 0}'), "options.cap: Input should be greater"),
        (("--update", "u1.st:1", "--norm-clip", "-1"), "norm_clip: Input should be greater than 0"),
        (("--update", "no.st:1"), "no.st: No such file or directory"),
        (("--update", "u1.st:1", "--strategy", "Krum"), "Krum needs at least 3 updates and has 1"),
    ],
)
def test_what_cannot_be_is_said_in_one_line_and_nothing_is_written(
    warren: Warren, arguments: tuple[str, ...], sentence: str
) -> None:
    before = sorted(Path().iterdir())
    code, said, complained = warren(*arguments)
    assert (code, said) == (1, "")
    assert sentence in complained
    assert complained.count("\n") == 1
    assert sorted(Path().iterdir()) == before
