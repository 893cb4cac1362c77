"""Daisy chains: who goes on with whose update in a round that no aggregation precedes."""

import hashlib
from collections.abc import Iterable

from schemas.ids import ClientId, TaskId
from schemas.plan import Plan
from services.scheduler.state import Link, TaskState, Training


def links(training: Training) -> tuple[Link, ...]:
    """What the current round passes on, sorted by client."""
    current = training.round
    assert current is not None, "a chain is made of rounds"
    accepted = current.in_state(TaskState.ACCEPTED)
    return tuple(Link(task.client_id, task.id, current.number, task.sha256) for task in accepted)


def going_on(training: Training) -> tuple[ClientId, ...]:
    """Those whose updates were passed on and who still take part, sorted."""
    participants = set(training.participants)
    return tuple(link.client_id for link in training.chain if link.client_id in participants)


def continued(
    plan: Plan, chain: Iterable[Link], clients: Iterable[ClientId], number: int, attempt: int
) -> tuple[TaskId, ...]:
    """The task with whose update each of the clients goes on, in their order.

    All updates are put in a circle by a lot that the plan's seed decides, and each client takes that of the
    next one: no update is taken twice, and nobody its own unless there is no other.
    """
    lot = f"{plan.seed}/{number}/{attempt}/chain"
    circle = sorted(chain, key=lambda link: hashlib.sha256(f"{lot}/{link.client_id}".encode()).digest())
    following = zip(circle, circle[1:] + circle[:1], strict=True)
    next_of = {link.client_id: after.task_id for link, after in following}
    return tuple(next_of[client] for client in clients)
