"""Closed sets of words."""

from enum import StrEnum


class TrainingState(StrEnum):
    CREATED = "created"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    ABORTED = "aborted"


class Phase(StrEnum):
    """What the current round is busy with."""

    TRAINING = "training"
    AGGREGATING = "aggregating"
    EVALUATING = "evaluating"
    ENDED = "ended"


class TaskKind(StrEnum):
    TRAIN = "train"
    EVALUATE = "evaluate"


class Outcome(StrEnum):
    """How a training ended, as one participant is told."""

    COMPLETED = "completed"
    FAILED = "failed"
    ABORTED = "aborted"
    REMOVED = "removed"
