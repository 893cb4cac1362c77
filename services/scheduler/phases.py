"""How rounds and their phases follow one another."""

import hashlib
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from math import ceil, isfinite

from schemas import events as e
from schemas.events import Event
from schemas.ids import ClientId
from schemas.message import MAX_METRICS, TaskMessage
from schemas.plan import Plan
from schemas.strategies import MAX_COMPARED, Strategy
from schemas.words import Phase
from services.scheduler.chaining import continued, going_on
from services.scheduler.evolve import fold
from services.scheduler.selecting import why_stop
from services.scheduler.state import Round, Task, TaskState, Training

Events = tuple[Event, ...]

_TOLD = 20  # so many missing clients are named in a sentence
_LONGEST = 3_800  # characters of why an attempt has ended: a reason has 4,000 at most


def begin(training: Training, number: int, attempt: int, now: datetime) -> Events:
    """In a daisy chain those go on whose updates were passed on; otherwise the clients are drawn anew."""
    plan = training.plan
    able = going_on(training) if training.chain else training.participants
    if len(able) < plan.quorum:
        reason = _too_few(plan, number, len(able))
        return (e.TrainingFailed(training_id=training.id, reason=reason),)
    clients = able if training.chain else drawn(plan, able, number, attempt)
    return (
        e.RoundStarted(
            training_id=training.id,
            round=number,
            attempt=attempt,
            clients=clients,
            deadline_at=now + timedelta(seconds=plan.participation.round_deadline_s),
            continues=continued(plan, training.chain, clients, number, attempt) if training.chain else (),
        ),
    )


def _too_few(plan: Plan, number: int, left: int) -> str:
    if plan.quorum > plan.participation.min_clients:
        needs = f"{rule_named(plan.strategy)} needs at least {plan.quorum} updates"
        return f"{needs}, and for round {number} {left} participants are left"
    return f"round {number} needs {plan.quorum} participants and {left} are left"


def rule_named(strategy: Strategy) -> str:
    """With the options that its least number of updates follows from: `Bulyan with f=1`."""
    options = {name: getattr(strategy, name) for name in ("f", "k") if hasattr(strategy, name)}
    told = ", ".join(f"{name}={value}" for name, value in options.items())
    return f"{strategy.name} with {told}" if told else strategy.name


def drawn(plan: Plan, participants: tuple[ClientId, ...], number: int, attempt: int) -> tuple[ClientId, ...]:
    """The clients of one attempt of a round, sorted: a drawing of lots that the plan's seed decides."""
    share = round(plan.participation.fraction * len(participants), 6)  # 0.07 of 100: 7, not 7.000000000000001
    count = max(plan.quorum, ceil(share))
    if plan.strategy.chooses:
        count = min(count, MAX_COMPARED)
    lot = f"{plan.seed}/{number}/{attempt}"
    by_lot = sorted(participants, key=lambda client: hashlib.sha256(f"{lot}/{client}".encode()).digest())
    return tuple(sorted(by_lot[:count]))


def settle(training: Training, now: datetime) -> Events:
    """End the phase once nothing more is awaited in it."""
    current = training.round
    if current is None or current.open or current.uploaded:
        return ()
    if current.phase is Phase.EVALUATING:
        return end_evaluation(training, now)
    if current.phase is Phase.TRAINING:
        return close(training, now)
    return ()


def close(training: Training, now: datetime) -> Events:
    current, strategy = current_round(training), training.plan.strategy
    if current.accepted < training.plan.quorum:
        return _give_up(training, now)
    if not strategy.aggregates(current.number):
        return _chain(training, now)
    return (
        e.RoundClosed(
            training_id=training.id,
            round=current.number,
            attempt=current.attempt,
            epoch=training.epoch + 1,
            accepted=tuple(task.id for task in current.in_state(TaskState.ACCEPTED)),
        ),
    )


def _chain(training: Training, now: datetime) -> Events:
    current = current_round(training)
    accepted = current.in_state(TaskState.ACCEPTED)
    chained = e.RoundChained(
        training_id=training.id,
        round=current.number,
        attempt=current.attempt,
        accepted=tuple(task.id for task in accepted),
        metrics=weighted_metrics(accepted),
    )
    return then((chained,), training, lambda after: advance(after, now))


def _give_up(training: Training, now: datetime) -> Events:
    current = current_round(training)
    accepted = {task.client_id for task in current.in_state(TaskState.ACCEPTED)}
    missing = tuple(client for client in current.clients if client not in accepted)
    updates = f"{current.accepted} of at least {training.plan.quorum} updates"
    return abandon(training, now, f"{updates}; missing: {_named(missing)}", missing)


def abandon(training: Training, now: datetime, why: str, missing: tuple[ClientId, ...] = ()) -> Events:
    """End this attempt of the round without a model; after the last one the training fails."""
    current, attempts = current_round(training), training.plan.participation.round_attempts
    reason = f"round {current.number}, attempt {current.attempt} of {attempts}: {why[:_LONGEST]}"
    abandoned = e.RoundAbandoned(
        training_id=training.id,
        round=current.number,
        attempt=current.attempt,
        reason=reason,
        missing=missing,
    )
    if current.attempt < attempts:
        return then(
            (abandoned,), training, lambda after: begin(after, current.number, current.attempt + 1, now)
        )
    return abandoned, e.TrainingFailed(training_id=training.id, reason=reason, missing=missing)


def evaluate(training: Training, now: datetime) -> Events:
    if not training.participants:
        return advance(training, now)
    return (
        e.EvaluationStarted(
            training_id=training.id,
            round=current_round(training).number,
            clients=training.participants,
            deadline_at=now + timedelta(seconds=training.plan.evaluation.deadline_s),
        ),
    )


def end_evaluation(training: Training, now: datetime) -> Events:
    reported = current_round(training).in_state(TaskState.REPORTED)
    present = {task.client_id for task in reported}
    ended = e.EvaluationEnded(
        training_id=training.id,
        round=current_round(training).number,
        metrics=weighted_metrics(reported),
        num_examples=sum(task.num_examples for task in reported),
        missing=tuple(client for client in current_round(training).clients if client not in present),
    )
    return then((ended,), training, lambda after: advance(after, now))


def weighted_metrics(tasks: tuple[Task, ...]) -> dict[str, float]:
    """Per metric the mean over the clients that reported it: sum(n_k m_k) / sum(n_k), in the order given.

    A mean that overflows is left out, and so are the names that the fewest clients reported when there are
    more than an event can carry.
    """
    sums: dict[str, tuple[float, int]] = {}
    for task in tasks:
        for name, value in task.metrics:
            total, examples = sums.get(name, (0.0, 0))
            sums[name] = (total + task.num_examples * value, examples + task.num_examples)
    means = {name: total / examples for name, (total, examples) in sums.items()}
    reporters = Counter(name for task in tasks for name, _ in task.metrics)
    told = sorted(
        (name for name in means if isfinite(means[name])), key=lambda name: (-reporters[name], name)
    )
    return {name: means[name] for name in sorted(told[:MAX_METRICS])}


def advance(training: Training, now: datetime) -> Events:
    following = current_round(training).number + 1
    is_last = following == training.plan.rounds
    why = None if is_last else why_stop(training.best, training.plan.best)
    if not is_last and why is None:
        return begin(training, following, 1, now)
    completed = e.TrainingCompleted(
        training_id=training.id, model=training.model, best=training.best.model, reason=why
    )
    return (completed,)


def then(events: Events, training: Training | None, following: Callable[[Training], Events]) -> Events:
    """`events`, and what follows from the state after them."""
    after = fold(training, events)
    assert after is not None
    return (*events, *following(after))


def current_round(training: Training) -> Round:
    assert training.round is not None, "only asked within a round"
    return training.round


def task_of(
    training: Training, message: TaskMessage, state: TaskState, phase: Phase | None = None
) -> Task | None:
    """The task a message is about, if it is in that state, that client's, and of the current phase."""
    current = training.round
    if current is None or (phase is not None and current.phase is not phase):
        return None
    task = current.tasks.get(message.task_id)
    is_meant = (
        task is not None
        and task.state is state
        and (task.client_id, current.number) == (message.client_id, message.round)
    )
    return task if is_meant else None


def _named(clients: tuple[ClientId, ...]) -> str:
    if not clients:
        return "none"
    told = ", ".join(map(str, clients[:_TOLD]))
    return f"{told} and {len(clients) - _TOLD} more" if len(clients) > _TOLD else told
