"""Object keys.  Made by us from UUIDs and numbers only; no key is another key's folder."""

from schemas.ids import ModelId, TaskId, TrainingId
from schemas.words import Slot


def uploaded_model(model: ModelId) -> str:
    """The version a model's owner brought: canonical safetensors."""
    return f"uploads/{model}.safetensors"


def model_version(training: TrainingId, version: int, epoch: int) -> str:
    """The epoch keeps a worker that wakes too late from writing over what another has published."""
    return f"models/{training}/{version}-{epoch}.safetensors"


def update(training: TrainingId, number: int, task: TaskId) -> str:
    return f"updates/{training}/{number}/{task}.safetensors"


def state(training: TrainingId, version: int, epoch: int, slot: Slot) -> str:
    """A part of the strategy's state, as it goes with a version of the model."""
    return f"state/{training}/{version}-{epoch}/{slot}.safetensors"


def reduce_plan(training: TrainingId, number: int, epoch: int) -> str:
    return f"rounds/{training}/{number}/epoch-{epoch}/plan.json"


def chosen_plan(training: TrainingId, number: int, epoch: int) -> str:
    """The plan with the chosen updates only, where the strategy chooses."""
    return f"rounds/{training}/{number}/epoch-{epoch}/chosen.json"


def measured_shard(training: TrainingId, number: int, epoch: int, index: int) -> str:
    return f"rounds/{training}/{number}/epoch-{epoch}/measured-{index}"


def shard(training: TrainingId, number: int, epoch: int, index: int, part: str = "model") -> str:
    """`part` is the model's, or a slot's."""
    return f"rounds/{training}/{number}/epoch-{epoch}/shard-{index}-{part}"
