"""Rules as an operator may write them, right and wrong."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

Values = NDArray[np.float64]

CONSTANT = 3


class Damping(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    share: float = Field(default=0.5, ge=0, le=1)


class Thawed(BaseModel):
    share: float = 0.5


class Opaque(BaseModel):
    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    thing: NDArray[np.float64]


def damped(current: Values, updates: Values, weights: Values, options: Damping) -> Values:
    """w + share * (mean - w): part of the way from the model to the mean.

    Nobody's paper.
    """
    total = sum(weight * update for weight, update in zip(weights, updates, strict=True))
    moved: Values = current + options.share * (total / weights.sum() - current)
    return moved


def without_options(current: Values, updates: Values, weights: Values) -> Values:
    return current


def unannotated(current, updates, weights, options):  # type: ignore[no-untyped-def]  # what is wrong with it
    return current


def with_any_options(current: Values, updates: Values, weights: Values, options: dict[str, Any]) -> Values:
    return current


def thawed(current: Values, updates: Values, weights: Values, options: Thawed) -> Values:
    return current


def opaque(current: Values, updates: Values, weights: Values, options: Opaque) -> Values:
    return current


def of_nowhere(current: Values, updates: Values, weights: Values, options: "Nowhere") -> Values:  # type: ignore[name-defined] # noqa: F821 -- what is wrong with it
    return current
