"""What the demo trains, and with whom."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from uuid import UUID, uuid5

from pydantic import JsonValue, ValidationError

from agents.operator.errors import CommandFailed
from schemas.catalogue import strategy_named
from schemas.ids import ClientId

SITES = ("ana", "ben", "cleo", "dan")
LOCAL_EPOCHS = 3
_SITES_OF_THE_DEMO = UUID("6f1d2c3e-5a47-4f0e-9b61-0c8a7d1e2b34")


def site_id(name: str) -> ClientId:
    """The same in every run: the order of the sites is that of their ids, and sums depend on order."""
    return ClientId(uuid5(_SITES_OF_THE_DEMO, name))


Options = Mapping[str, JsonValue]

# Where a strategy's own defaults do not suit four sites and six rounds.
OPTIONS: Mapping[str, Options] = MappingProxyType(
    {
        "FedYogi": {"eta": 0.03},
        "FedTrimmedAvg": {"beta": 0.25},  # one from each end; 0.2 of four is none
        "MultiKrum": {"k": 3},
        "Bulyan": {"f": 0},  # 1 takes seven sites
        "QFedAvg": {"client_lr": 5.0},  # of all steps of a round together
        "FedDC": {"period": 2},
    }
)

NAMES: Mapping[ClientId, str] = MappingProxyType({site_id(name): name for name in SITES})


def strategy(name: str, options: Options) -> dict[str, JsonValue]:
    """As the API is asked for it: these options, then the demo's, then its own."""
    asked = {**OPTIONS.get(name, {}), **options}
    try:
        strategy_named(name, asked)
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise CommandFailed(f"--options of {name}: {'; '.join(faults)}") from None
    return {"name": name, **asked}


def training(
    model: UUID, *, rounds: int, seed: int, by: Mapping[str, JsonValue] = MappingProxyType({"name": "FedAvg"})
) -> dict[str, Any]:
    """The body that creates the training.  Nobody may be missing, or the result would be another one."""
    return {
        "model_id": str(model),
        "target_num_updates": rounds,
        "metric_names": ["accuracy", "loss"],
        "strategy": dict(by),
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
