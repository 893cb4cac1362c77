import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from agents.client.results import BadResult, take_result, take_update
from tests.unit.client.builders import MODEL_BYTES, WEIGHTS
from tests.unit.client.conftest import Assign


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (None, "no result was written"),
        ("", "Invalid JSON"),
        ("garbage", "Invalid JSON"),
        ("[]", "should be an object"),
        ('{"metrics": {}}', "num_examples: Field required"),
        ('{"num_examples": 1, "speed": 2}', "speed: Extra inputs"),
        ('{"num_examples": 0}', "greater than or equal to 1"),
        ('{"num_examples": -5}', "greater than or equal to 1"),
        ('{"num_examples": 2147483648}', "less than or equal to 2147483647"),
        ('{"num_examples": 1.5}', "valid integer"),
        ('{"num_examples": "9"}', "valid integer"),
        ('{"num_examples": 1, "metrics": {"loss": NaN}}', "metrics.loss: Input should be a finite number"),
        ('{"num_examples": 1, "metrics": {"loss": Infinity}}', "finite number"),
        ('{"num_examples": 1, "metrics": {"loss": "low"}}', "metrics.loss"),
        ('{"num_examples": 1, "metrics": {"a b": 1}}', "pattern"),
        (" " * 40_000, "larger than"),
    ],
)
def test_a_result_that_is_not_one_is_refused_with_what_is_expected(
    assign: Assign, text: str | None, fault: str
) -> None:
    assignment = assign()
    if text is not None:
        assignment.result.write_text(text)
    with pytest.raises(BadResult) as caught:
        take_result(assignment)
    assert fault in str(caught.value)
    assert '"num_examples": 1 to 2147483647' in str(caught.value)


def test_a_good_result_is_taken(assign: Assign) -> None:
    assignment = assign()
    assignment.result.write_text('{"num_examples": 12, "metrics": {"accuracy": 1}}')
    assert take_result(assignment).metrics == {"accuracy": 1.0}


def test_an_update_in_any_order_and_with_metadata_becomes_canonical(assign: Assign) -> None:
    assignment = assign()
    save_file(dict(reversed(WEIGHTS.items())), assignment.update, metadata={"by": "me"})
    assert take_update(assignment) == hashlib.sha256(MODEL_BYTES).hexdigest()
    assert assignment.upload.read_bytes() == MODEL_BYTES


def _nothing(path: Path) -> None: ...


def _without_bias(path: Path) -> None:
    save_file({name: value for name, value in WEIGHTS.items() if name != "bias"}, path)


def _as_doubles(path: Path) -> None:
    save_file(WEIGHTS | {"weight": np.eye(3)}, path)


def _with_one_more(path: Path) -> None:
    save_file(WEIGHTS | {"more": np.eye(1)}, path)


@pytest.mark.parametrize(
    ("write", "fault"),
    [
        (_nothing, "no update was written to WARREN_UPDATE_OUT"),
        (lambda path: path.write_bytes(b""), "not a valid weights file"),
        (lambda path: path.write_bytes(b"garbage" * 100), "not a valid weights file"),
        (lambda path: path.write_bytes(MODEL_BYTES[:-1]), "ends after"),
        (lambda path: path.write_bytes(MODEL_BYTES + b"x"), "expected"),
        (_without_bias, "tensor 'bias' is missing"),
        (_as_doubles, "tensor 'weight' has dtype F64, not F32"),
        (_with_one_more, "tensor 'more' is not part of it"),
    ],
)
def test_an_update_that_is_not_one_is_refused_with_the_first_difference(
    assign: Assign, write: Callable[[Path], object], fault: str
) -> None:
    assignment = assign()
    write(assignment.update)
    with pytest.raises(BadResult, match=fault):
        take_update(assignment)
