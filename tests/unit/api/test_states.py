"""How a training stands."""

import pytest

from schemas.words import TrainingState
from services.api.states import Stage, letter, stage


@pytest.mark.parametrize(
    ("state", "requested", "expected"),
    [
        (TrainingState.CREATED, False, ("I", Stage.OPEN)),
        (TrainingState.CREATED, True, ("O", Stage.UNDER_WAY)),
        (TrainingState.RUNNING, True, ("O", Stage.UNDER_WAY)),
        (TrainingState.COMPLETED, True, ("C", Stage.OVER)),
        (TrainingState.FAILED, True, ("E", Stage.OVER)),
        (TrainingState.ABORTED, True, ("E", Stage.OVER)),
        (TrainingState.ABORTED, False, ("E", Stage.OVER)),
    ],
)
def test_every_state_has_a_letter_and_a_stage(
    state: TrainingState, requested: bool, expected: tuple[str, Stage]
) -> None:
    assert (letter(state, start_requested=requested), stage(state, start_requested=requested)) == expected
