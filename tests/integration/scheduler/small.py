"""A model of a few bytes, for tests that are about other things."""

from collections.abc import Sequence
from typing import Any

from infra.weights.layout import Dtype, Tensor, canonical
from schemas.commands import StartTraining
from schemas.ids import ClientId
from schemas.plan import Evaluation, Participation
from tests.recompute import trained
from tests.scene import Scene

LAYOUT = canonical([Tensor("w", Dtype.F32, (8,))])
MODEL = trained(LAYOUT, LAYOUT.header + bytes(LAYOUT.data_size), [7])


async def a_training(
    scene: Scene,
    *,
    clients: Sequence[ClientId] = (),
    rounds: int = 1,
    evaluate_every: int = 0,
    deadline_s: float = 60,
    shard_bytes: int = 2**20,
    **policy: Any,  # of Participation
) -> StartTraining:
    return await scene.training(
        MODEL,
        LAYOUT.header_size,
        clients,
        shard_bytes=shard_bytes,
        rounds=rounds,
        evaluation=Evaluation(every=evaluate_every, deadline_s=deadline_s),
        participation=Participation(**{"round_deadline_s": deadline_s, **policy}),
    )
