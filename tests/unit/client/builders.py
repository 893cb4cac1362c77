"""What the tests of the agent talk about."""

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import numpy as np
from safetensors.numpy import save

from schemas.commands import Access, EvaluateModel, TrainRound
from schemas.ids import ClientId, ModelId, TaskId, TrainingId
from schemas.weights import ModelRef, StateRef
from schemas.words import Extra, Slot, UpdateKind

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
DEADLINE = NOON + timedelta(hours=1)
SITE = ClientId(UUID("11111111-1111-1111-1111-111111111111"))
TRAINING = TrainingId(UUID("22222222-2222-2222-2222-222222222222"))
WEIGHTS = {
    "bias": np.arange(3, dtype=np.float32),
    "count": np.array(7),
    "weight": np.eye(3, dtype=np.float32),
}
MODEL_BYTES = save(WEIGHTS)
CONTROL = {"bias": np.full(3, 0.5, np.float32), "weight": np.full((3, 3), 0.25, np.float32)}
CONTROL_BYTES = save(CONTROL)


def a_ref(content: bytes = MODEL_BYTES) -> ModelRef:
    return ModelRef(
        model_id=ModelId(UUID("33333333-3333-3333-3333-333333333333")),
        version=0,
        key="models/x/0.safetensors",
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        header_size=8 + int.from_bytes(content[:8], "little"),
    )


def a_state(content: bytes = CONTROL_BYTES) -> StateRef:
    return StateRef(
        slot=Slot.CONTROL,
        key="state/x/0-1/control.safetensors",
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
    )


def a_ticket(url: str = "memory:", state_url: str | None = None) -> Access:
    return Access(
        download_url=f"{url}/model",
        upload_url=f"{url}/update",
        upload_headers={},
        state_url=state_url,
        expires_at=DEADLINE,
    )


def to_train(
    task_id: UUID | None = None,
    access: Access | None = None,
    *,
    deadline: datetime = DEADLINE,
    training: TrainingId = TRAINING,
    model: ModelRef | None = None,
    update: UpdateKind = UpdateKind.WEIGHTS,
    partial: bool = False,
    extra: Extra | None = None,
    state: StateRef | None = None,
) -> TrainRound:
    return TrainRound(
        training_id=training,
        task_id=TaskId(task_id or uuid4()),
        client_id=SITE,
        round=4,
        attempt=1,
        model=model or a_ref(),
        update=update,
        partial=partial,
        extra=extra,
        state=state,
        config={"lr": 0.5},
        deadline_at=deadline,
        access=access,
    )


def to_evaluate(access: Access | None = None, deadline: datetime = DEADLINE) -> EvaluateModel:
    return EvaluateModel(
        training_id=TRAINING,
        task_id=TaskId(uuid4()),
        client_id=SITE,
        round=4,
        model=a_ref(),
        config={},
        deadline_at=deadline,
        access=access,
    )


def soon(seconds: float = 60) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def write_model(folder: Path) -> Path:
    path = folder / "model.safetensors"
    path.write_bytes(MODEL_BYTES)
    return path


def write_state(folder: Path) -> Path:
    path = folder / "control.safetensors"
    path.write_bytes(CONTROL_BYTES)
    return path
