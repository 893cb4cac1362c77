"""Every version of a training is recomputed from what was recorded, and whatever differs is named."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from infra.objects.memory import MemoryObjects
from infra.plugins import load_rules
from infra.weights.header import header_size
from schemas import events as e
from schemas import keys
from schemas.events import Event
from schemas.ids import ClientId
from schemas.plan import Evaluation
from schemas.reports import ModelUploaded
from schemas.strategies import (
    SCAFFOLD,
    SWAG,
    Custom,
    FedAdam,
    FedAvg,
    FedDC,
    FedMedian,
    MultiKrum,
    QFedAvg,
    Strategy,
)
from schemas.words import UpdateKind
from services.aggregator.verify import Verdict, verdicts
from services.aggregator.work import Worker
from tests.builders import ANA, BEN, CLEO, DAN, TRAINING
from tests.played import played

RULES = load_rules("damped=tests.rules:damped")
CLIENTS = (ANA, BEN, CLEO, DAN)
ROUNDS = 2


def a_file(seed: int, extra: str = "") -> bytes:
    random = np.random.default_rng(seed)
    floats = {"w": random.standard_normal(50).astype("f4"), "h": random.standard_normal(9).astype("f2")}
    beside = {f"{extra}/{name}": np.abs(array) for name, array in floats.items()} if extra else {}
    return save({**floats, "n": np.array([seed, 3]), **beside})


def a_training(objects: MemoryObjects, strategy: Strategy, **plan: Any) -> tuple[Event, ...]:
    model = a_file(0)

    def upload(client: ClientId, round_: int) -> tuple[bytes, int, dict[str, float]]:
        extra = strategy.extra_of(round_, ROUNDS)
        seed = client.int * 10 + round_ + 1
        return a_file(seed, extra or ""), seed, {"loss": seed / 7}

    return played(
        objects,
        Worker(objects, RULES),
        (model, header_size(model[:8])),
        CLIENTS,
        upload,
        **{
            "rounds": ROUNDS,
            "strategy": strategy,
            "evaluation": Evaluation(every=0),
            "shard_bytes": 64,
            **plan,
        },
    )


def found(events: Iterable[Event], objects: MemoryObjects) -> list[Verdict]:
    return list(verdicts(events, objects, RULES))


def faults(events: Iterable[Event], objects: MemoryObjects) -> list[str]:
    return [fault for verdict in found(events, objects) for fault in verdict.faults]


@pytest.mark.parametrize(
    ("strategy", "plan"),
    [
        (FedAvg(), {}),
        (FedAvg(), {"shard_bytes": 1 << 20}),
        (FedAvg(), {"norm_clip": 1.0}),
        (FedAdam(), {}),
        (FedMedian(), {"update": "delta"}),
        (MultiKrum(f=1, k=2), {}),
        (MultiKrum(f=1, k=2), {"shard_bytes": 1 << 20}),
        (QFedAvg(), {}),
        (FedDC(period=2), {}),
        (SWAG(rounds=1), {}),
        (SCAFFOLD(), {}),
        (Custom(rule="damped", options={"share": 0.5}), {}),
    ],
    ids=str,
)
def test_a_training_of_every_kind_comes_out_as_it_was(strategy: Strategy, plan: dict[str, Any]) -> None:
    objects = MemoryObjects()
    plan = {**plan, **({"update": UpdateKind(plan["update"])} if "update" in plan else {})}
    events = a_training(objects, strategy, **plan)
    made = [event.model for event in events if isinstance(event, e.RoundAggregated)]
    before = {key: objects.stat(key).etag for key in objects.keys("")}
    assert [(one.version, one.sha256, one.faults) for one in found(events, objects)][1:] == [
        (model.version, model.sha256, ()) for model in made
    ]
    assert {key: objects.stat(key).etag for key in objects.keys("")} == before, "nothing is written"


def test_the_version_that_was_uploaded_is_compared_too() -> None:
    objects = MemoryObjects()
    events = a_training(objects, FedAvg())
    assert [(one.version, one.round, one.faults) for one in found(events, objects)] == [
        (0, None, ()),
        (1, 0, ()),
        (2, 1, ()),
    ]


def test_a_model_that_was_changed_in_the_store_is_named() -> None:
    objects = MemoryObjects()
    events = a_training(objects, FedAvg())
    key = keys.model_version(TRAINING, 2, 2)
    objects.put(key, [b"else"], 4)
    (fault,) = faults(events, objects)
    assert fault.startswith(f"{key} in the store has the sha256 ")


def test_a_model_or_a_state_that_was_recorded_wrongly_is_named() -> None:
    objects = MemoryObjects()
    events = list(a_training(objects, FedAdam()))
    last = max(place for place, event in enumerate(events) if isinstance(event, e.RoundAggregated))
    right = events[last]
    assert isinstance(right, e.RoundAggregated)
    model = right.model.model_copy(update={"sha256": "0" * 64})
    events[last] = right.model_copy(update={"model": model, "state": right.state[:1]})
    told = " ".join(faults(events, objects))
    assert f"the model comes out with the sha256 {right.model.sha256}, not {'0' * 64}" in told
    assert f"the state v comes out with the sha256 {right.state[1].sha256}, not None" in told


@pytest.mark.parametrize("change", ["missing", "changed"])
def test_an_update_that_is_missing_or_changed_is_named_with_its_client(change: str) -> None:
    objects = MemoryObjects()
    events = a_training(objects, FedMedian())
    upload = next(each for each in events if isinstance(each, ModelUploaded) and each.round == 1)
    key = keys.update(TRAINING, 1, upload.task_id)
    if change == "missing":
        objects.delete(key)
    else:
        objects.put(key, [a_file(99)], len(a_file(99)))
    good, bad = found(events, objects)[1:]
    assert good.faults == ()
    assert any(key in fault and str(upload.client_id) in fault for fault in bad.faults), bad.faults


def test_a_plan_that_is_not_what_the_events_say_is_named() -> None:
    objects = MemoryObjects()
    events = a_training(objects, FedAvg())
    key = keys.reduce_plan(TRAINING, 0, 1)
    objects.put(key, [b"{}"], 2)
    assert faults(events, objects) == [f"{key} is not the plan that follows from the events"]


def test_a_choice_that_the_strategy_would_not_make_is_named() -> None:
    objects = MemoryObjects()
    events = list(a_training(objects, MultiKrum(f=1, k=2)))
    place = next(place for place, event in enumerate(events) if event.type == "UpdatesChosen")
    events[place] = events[place].model_copy(update={"clients": (DAN,)})
    assert any(fault.startswith("the strategy chooses ") for fault in faults(events, objects))
