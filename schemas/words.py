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


class UpdateKind(StrEnum):
    """What a client's file holds: its weights, or their difference from the model it was given."""

    WEIGHTS = "weights"
    DELTA = "delta"


class Extra(StrEnum):
    """Tensors that travel beside the weights: one for each floating-point tensor, named `<extra>/<its name>`.

    They have the shape and dtype of that tensor.
    """

    CONTROL = "control"
    SECOND_MOMENT = "second_moment"


class Slot(StrEnum):
    """A part of a strategy's state: a file with one tensor for each floating-point tensor of the model.

    They have its name and shape.  `control` and `second_moment` have its dtype too, the others are float64.
    """

    MOMENTUM = "momentum"
    M = "m"
    V = "v"
    CONTROL = "control"
    SECOND_MOMENT = "second_moment"


class Mode(StrEnum):
    MAX = "max"
    MIN = "min"
