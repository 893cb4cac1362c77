"""How a training stands, in our words and in the demonstrator's letters."""

from enum import StrEnum

from schemas.words import TrainingState

_LETTERS = {
    TrainingState.CREATED: "I",
    TrainingState.RUNNING: "O",
    TrainingState.COMPLETED: "C",
    TrainingState.FAILED: "E",
    TrainingState.ABORTED: "E",
}


class Stage(StrEnum):
    """Who may change a training: its owner's requests, the saga alone, nobody any more."""

    OPEN = "not started"
    UNDER_WAY = "under way"
    OVER = "over"


def stage(state: TrainingState, *, start_requested: bool) -> Stage:
    match state:
        case TrainingState.CREATED:
            return Stage.UNDER_WAY if start_requested else Stage.OPEN
        case TrainingState.RUNNING:
            return Stage.UNDER_WAY
        case _:
            return Stage.OVER


def letter(state: TrainingState, *, start_requested: bool) -> str:
    """Initial, ongoing, completed, or error.  A start that is on its way counts as ongoing."""
    under_way = stage(state, start_requested=start_requested) is Stage.UNDER_WAY
    return _LETTERS[TrainingState.RUNNING if under_way else state]
