"""What a site refuses to take part in."""

import tomllib
from pathlib import Path
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agents.client.training import Order
from schemas.refusal import Refusal

MEGABYTE = 1_000_000


class PolicyUnreadable(Refusal):
    code = "policy_unreadable"

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"the policy file {path} cannot be used: {why}")


class Policy(BaseModel):
    """A TOML file with these keys.  Without a file, or by default, everything is accepted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    accept: frozenset[UUID] | None = None  # trainings; None = all that are not refused
    refuse: frozenset[UUID] = frozenset()  # trainings
    max_model_mb: float | None = Field(default=None, gt=0)


def read_policy(path: Path | None) -> Policy:
    if path is None:
        return Policy()
    try:
        return Policy.model_validate(tomllib.loads(path.read_text()))
    except (OSError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise PolicyUnreadable(path, str(error)) from None


def refusal_of(order: Order, policy: Policy) -> str | None:
    """Why the site does not take part in the order's training; None if it does."""
    if order.training_id in policy.refuse:
        return "the site's policy refuses this training"
    if policy.accept is not None and order.training_id not in policy.accept:
        return "the site's policy accepts only trainings it names, and this is none of them"
    if policy.max_model_mb is not None and order.model.size > policy.max_model_mb * MEGABYTE:
        size = order.model.size / MEGABYTE
        return f"the model has {size:.1f} MB, the site's policy accepts at most {policy.max_model_mb:g} MB"
    return None
