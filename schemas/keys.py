"""Object keys.  Made by us from UUIDs and numbers only; no key is another key's folder."""

from schemas.ids import ModelId, TaskId, TrainingId


def uploaded_model(model: ModelId) -> str:
    """The version a model's owner brought: canonical safetensors."""
    return f"uploads/{model}.safetensors"


def model_version(training: TrainingId, version: int, epoch: int) -> str:
    """The epoch keeps a worker that wakes too late from writing over what another has published."""
    return f"models/{training}/{version}-{epoch}.safetensors"


def update(training: TrainingId, number: int, task: TaskId) -> str:
    return f"updates/{training}/{number}/{task}.safetensors"


def reduce_plan(training: TrainingId, number: int, epoch: int) -> str:
    return f"rounds/{training}/{number}/epoch-{epoch}/plan.json"


def shard(training: TrainingId, number: int, epoch: int, index: int) -> str:
    return f"rounds/{training}/{number}/epoch-{epoch}/shard-{index}"
