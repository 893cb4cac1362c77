"""Whole trainings in memory: the saga, a real worker, and sites that upload what they are told to."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from infra.objects.store import ObjectStore
from schemas.commands import InspectUpdate, StartTraining, TrainRound
from schemas.events import Event
from schemas.ids import ClientId
from schemas.keys import update, uploaded_model
from schemas.message import TrainingMessage
from schemas.plan import Plan
from schemas.reports import ModelUploaded
from schemas.weights import ModelRef
from schemas.words import TrainingState
from services.aggregator.work import Worker
from services.scheduler.orders import Send, StoreObject
from services.scheduler.state import Training
from tests.builders import MODEL, TRAINING, steps
from tests.recompute import sha256_of

Upload = Callable[[ClientId, int], tuple[bytes, int, Mapping[str, float]]]  # file, examples, metrics


def played(
    objects: ObjectStore,
    worker: Worker,
    model: tuple[bytes, int],
    clients: Sequence[ClientId],
    upload: Upload,
    **plan: Any,
) -> tuple[Event, ...]:
    """The events of a training without evaluations, that must complete; its objects are in the store."""
    training: Training | None = None
    events: list[Event] = []
    inbox: deque[Any] = deque([_start(objects, model, clients, Plan(**plan))])
    while inbox:
        (after,) = steps(training, inbox.popleft())
        training = after.training
        events.extend(recorded.event for recorded in after.events)
        for order in after.orders:
            if isinstance(order, StoreObject):
                objects.put(order.key, [order.body], len(order.body))
            elif isinstance(order, Send):
                inbox.extend(_answers(objects, worker, order.command, upload))
    assert training is not None
    assert training.state is TrainingState.COMPLETED, training.reason
    return tuple(events)


def _start(
    objects: ObjectStore, model: tuple[bytes, int], clients: Sequence[ClientId], plan: Plan
) -> StartTraining:
    content, header_size = model
    key = uploaded_model(MODEL)
    objects.put(key, [content], len(content))
    ref = ModelRef(
        model_id=MODEL,
        version=0,
        key=key,
        sha256=sha256_of(content),
        size=len(content),
        header_size=header_size,
    )
    return StartTraining(training_id=TRAINING, plan=plan, model=ref, participants=tuple(clients))


def _answers(
    objects: ObjectStore, worker: Worker, command: TrainingMessage, upload: Upload
) -> tuple[TrainingMessage, ...]:
    match command:
        case TrainRound():
            content, num_examples, metrics = upload(command.client_id, command.round)
            key = update(command.training_id, command.round, command.task_id)
            objects.put(key, [content], len(content))
            return (
                ModelUploaded(
                    training_id=command.training_id,
                    task_id=command.task_id,
                    client_id=command.client_id,
                    round=command.round,
                    sha256=sha256_of(content),
                    num_examples=num_examples,
                    metrics=dict(metrics),
                ),
            )
        case InspectUpdate():
            return (worker.inspect_update(command),)
        case _ if command.type in _WORK:
            report: TrainingMessage = getattr(worker, _WORK[command.type])(command)
            return (report,)
    return ()


_WORK = {
    "MeasureShard": "measure_shard",
    "ChooseUpdates": "choose_updates",
    "ReduceShard": "reduce_shard",
    "PublishModel": "publish_model",
}
