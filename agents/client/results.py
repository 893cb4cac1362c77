"""Takes what the user code left behind, if it is what it must be."""

import hashlib
import os
from pathlib import Path
from typing import ClassVar

from pydantic import ValidationError

from agents.client.runner import Assignment
from agents.client.training import Result
from infra.weights.files import canonicalise, read_layout
from infra.weights.layout import Layout
from infra.weights.parts import update_layout
from schemas.commands import TrainRound
from schemas.message import MAX_EXAMPLES
from schemas.refusal import Refusal

_MAX_RESULT_BYTES = 2**15
_EXPECTED = (
    f'expected is a JSON object {{"num_examples": 1 to {MAX_EXAMPLES}, "metrics": {{name: finite number}}}}'
)


class BadResult(Refusal):
    code: ClassVar[str] = "bad_result"


def take_result(assignment: Assignment) -> Result:
    file = assignment.result
    try:
        text = file.read_bytes() if file.stat().st_size <= _MAX_RESULT_BYTES else None
    except OSError:
        raise BadResult(f"no result was written to WARREN_RESULT_OUT; {_EXPECTED}") from None
    if text is None:
        raise BadResult(f"the result is larger than {_MAX_RESULT_BYTES} bytes; {_EXPECTED}")
    try:
        return Result.model_validate_json(text)
    except ValidationError as error:
        raise BadResult(f"the result is wrong: {_first_fault(error)}; {_EXPECTED}") from None


def take_update(assignment: Assignment) -> str:
    """Makes the update canonical, ready to be uploaded and safely on disk; the sha256 of its bytes."""
    assert isinstance(assignment.order, TrainRound), "an evaluation has no update"
    if not assignment.update.is_file():
        raise BadResult(
            "no update was written to WARREN_UPDATE_OUT; expected are the model's tensors as safetensors"
        )
    try:
        expected = expected_of(
            assignment.order, read_layout(assignment.update), read_layout(assignment.model)
        )
        canonicalise(assignment.update, expected, assignment.upload)
    except BadResult:
        raise
    except Refusal as no:
        raise BadResult(f"the update is wrong: {no}") from None
    with assignment.upload.open("rb+") as file:
        os.fsync(file.fileno())
    assignment.update.unlink()
    return sha256_of(assignment.upload)


def expected_of(order: TrainRound, found: Layout, model: Layout) -> Layout:
    """What a file with these tensors must look like, if it has all the names it needs."""
    names = {tensor.name for tensor in found.tensors}
    sent = None
    if order.partial:
        sent = [place for place, tensor in enumerate(model.tensors) if tensor.name in names]
        if not sent:
            raise BadResult("the update has none of the model's tensors")
    expected = update_layout(model, order.extra, sent)
    lacking = [tensor.name for tensor in expected.tensors if tensor.name not in names]
    if lacking:
        more = f" and {len(lacking) - 1} more" if lacking[1:] else ""
        raise BadResult(f"the update lacks {lacking[0]}{more}")
    return expected


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(map(str, fault["loc"]))[:100]
    return f"{where}: {fault['msg']}"[:300] if where else fault["msg"][:300]
