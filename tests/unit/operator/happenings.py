"""Events as an operator reads them."""

from datetime import timedelta
from typing import Any

from agents.operator.progress import Progress, advance
from schemas import events as e
from schemas.envelope import Envelope, enclose
from schemas.identity import event_id
from schemas.ids import ClientId
from schemas.reports import ModelUploaded
from tests.builders import NOON, TRAINING, a_model, a_plan, a_task, uploaded


def a_start(*clients: ClientId, rounds: int = 2) -> e.TrainingStarted:
    return e.TrainingStarted(
        training_id=TRAINING, plan=a_plan(rounds=rounds), model=a_model(), participants=clients
    )


def a_round(*clients: ClientId, number: int = 0, attempt: int = 1) -> e.RoundStarted:
    return e.RoundStarted(
        training_id=TRAINING, round=number, attempt=attempt, clients=clients, deadline_at=NOON
    )


def an_upload(client: ClientId, loss: float, num_examples: int = 10) -> ModelUploaded:
    return uploaded(client, num_examples=num_examples).model_copy(update={"metrics": {"train_loss": loss}})


def a_close(*clients: ClientId) -> e.RoundClosed:
    accepted = tuple(map(a_task, clients))
    return e.RoundClosed(training_id=TRAINING, round=0, attempt=1, epoch=1, accepted=accepted)


def an_aggregation(number: int = 0) -> e.RoundAggregated:
    return e.RoundAggregated(training_id=TRAINING, round=number, epoch=1, model=a_model(number + 1))


def an_evaluation(number: int = 0, **metrics: float) -> e.EvaluationEnded:
    return e.EvaluationEnded(training_id=TRAINING, round=number, metrics=metrics, num_examples=10, missing=())


def a_completion() -> e.TrainingCompleted:
    return e.TrainingCompleted(training_id=TRAINING, model=a_model(2))


def enclosed(event: e.Event, seq: int) -> Envelope[Any]:
    """Events happen a second apart."""
    at = NOON + timedelta(seconds=seq)
    return enclose(event, id=event_id(TRAINING, seq), source="scheduler", time=at, sequence=seq)


def seen(*events: e.Event) -> Progress:
    progress = Progress()
    for seq, event in enumerate(events, start=1):
        progress = advance(progress, enclosed(event, seq))
    return progress
