"""What the demo trains, and with whom."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from uuid import UUID, uuid5

from schemas.ids import ClientId

SITES = ("ana", "ben", "cleo", "dan")
LOCAL_EPOCHS = 3
_SITES_OF_THE_DEMO = UUID("6f1d2c3e-5a47-4f0e-9b61-0c8a7d1e2b34")


def site_id(name: str) -> ClientId:
    """The same in every run: the order of the sites is that of their ids, and sums depend on order."""
    return ClientId(uuid5(_SITES_OF_THE_DEMO, name))


NAMES: Mapping[ClientId, str] = MappingProxyType({site_id(name): name for name in SITES})


def training(model: UUID, *, rounds: int, seed: int) -> dict[str, Any]:
    """The body that creates the training.  Nobody may be missing, or the result would be another one."""
    return {
        "model_id": str(model),
        "target_num_updates": rounds,
        "metric_names": ["accuracy", "loss"],
        "clients": [str(client) for client in NAMES],
        "participation": {
            "min_clients": len(SITES),
            "round_deadline_s": 120.0,
            "round_attempts": 10,
            "task_attempts": 20,
        },
        "evaluation": {"every": 1, "deadline_s": 120.0},
        "config": {"local_epochs": LOCAL_EPOCHS, "seed": seed},
        "seed": seed,
    }
