import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save, save_file

from agents.client.results import BadResult, take_result, take_update
from schemas.commands import TrainRound
from schemas.words import Extra
from tests.unit.client.builders import MODEL_BYTES, WEIGHTS, to_train
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
        (_without_bias, "the update lacks bias$"),
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


CHANGES = {f"control/{name}": WEIGHTS[name] + 1 for name in ("weight", "bias")}


def test_the_extra_tensors_travel_beside_the_weights_in_canonical_order(assign: Assign) -> None:
    assignment = assign(to_train(extra=Extra.CONTROL))
    save_file(CHANGES | WEIGHTS, assignment.update, metadata={"by": "me"})
    take_update(assignment)
    assert assignment.upload.read_bytes() == save(WEIGHTS | CHANGES)


@pytest.mark.parametrize("names", [("weight",), ("count",), ("bias", "count"), tuple(WEIGHTS)])
def test_a_partial_update_may_have_some_of_the_models_tensors(assign: Assign, names: tuple[str, ...]) -> None:
    assignment = assign(to_train(partial=True))
    save_file({name: WEIGHTS[name] for name in names}, assignment.update)
    take_update(assignment)
    assert assignment.upload.read_bytes() == save({name: WEIGHTS[name] for name in names})


def test_a_partial_update_has_the_extras_of_what_it_sends(assign: Assign) -> None:
    assignment = assign(to_train(partial=True, extra=Extra.CONTROL))
    save_file(
        {name: (WEIGHTS | CHANGES)[name] for name in ("count", "bias", "control/bias")}, assignment.update
    )
    take_update(assignment)
    assert set(load_file(assignment.upload)) == {"bias", "control/bias", "count"}


@pytest.mark.parametrize(
    ("order", "tensors", "fault"),
    [
        (to_train(extra=Extra.CONTROL), WEIGHTS, "the update lacks control/bias and 1 more"),
        (
            to_train(extra=Extra.CONTROL),
            WEIGHTS | {"control/bias": WEIGHTS["bias"]},
            "the update lacks control/weight$",
        ),
        (
            to_train(extra=Extra.SECOND_MOMENT),
            WEIGHTS | CHANGES,
            "the update lacks second_moment/bias and 1 more",
        ),
        (to_train(extra=Extra.CONTROL), CHANGES, "the update lacks count and 2 more"),
        (
            to_train(extra=Extra.CONTROL),
            WEIGHTS | CHANGES | {"control/bias": np.zeros(3)},
            "tensor 'control/bias' has dtype F64, not F32",
        ),
        (
            to_train(extra=Extra.CONTROL),
            WEIGHTS | CHANGES | {"control/weight": np.zeros(9, np.float32)},
            r"'control/weight' has shape \[9\], not \[3, 3\]",
        ),
        (
            to_train(extra=Extra.CONTROL),
            WEIGHTS | CHANGES | {"control/count": np.array(7)},
            "tensor 'control/count' is not part of it",
        ),
        (to_train(), WEIGHTS | CHANGES, "tensor 'control/bias' is not part of it"),
        (to_train(partial=True), {"more": np.eye(1)}, "the update has none of the model's tensors"),
        (
            to_train(partial=True),
            {"bias": WEIGHTS["bias"], "more": np.eye(1)},
            "tensor 'more' is not part of it",
        ),
        (to_train(partial=True), {"bias": np.zeros(3)}, "tensor 'bias' has dtype F64, not F32"),
        (to_train(partial=True, extra=Extra.CONTROL), CHANGES, "the update has none of the model's tensors"),
        (
            to_train(partial=True, extra=Extra.CONTROL),
            {"bias": WEIGHTS["bias"], **CHANGES},
            "tensor 'control/weight' is not part of it",
        ),
        (
            to_train(partial=True, extra=Extra.CONTROL),
            {"bias": WEIGHTS["bias"], "count": WEIGHTS["count"]},
            "the update lacks control/bias$",
        ),
    ],
)
def test_an_update_that_is_not_what_was_ordered_is_refused_with_what_lacks_or_is_too_much(
    assign: Assign, order: TrainRound, tensors: dict[str, NDArray[np.generic]], fault: str
) -> None:
    assignment = assign(order)
    save_file(tensors, assignment.update)
    with pytest.raises(BadResult, match=fault):
        take_update(assignment)
    assert not assignment.upload.exists()


def test_a_model_with_a_tensor_where_an_extra_must_be_is_refused(assign: Assign) -> None:
    assignment = assign(to_train(extra=Extra.CONTROL))
    save_file(WEIGHTS | CHANGES, assignment.model)
    save_file(WEIGHTS | CHANGES, assignment.update)
    with pytest.raises(BadResult, match="the model has a tensor 'control/"):
        take_update(assignment)
