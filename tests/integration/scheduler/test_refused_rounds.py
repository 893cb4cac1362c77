"""A round that no worker can combine ends, and says why; it is not tried for ever."""

import pytest

from schemas import events as e
from schemas.plan import Evaluation, Participation
from schemas.strategies import FedAvg
from tests.integration.scheduler.small import LAYOUT, MODEL
from tests.scene import Scene
from tests.sites import attending

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("shard_bytes", [8, 2**20])
async def test_updates_that_cannot_be_combined_fail_the_training_with_the_reason(
    scene: Scene, shard_bytes: int
) -> None:
    start = await scene.training(
        MODEL,
        LAYOUT.header_size,
        strategy=FedAvg(client_weights=dict.fromkeys(scene.place.clients, 0.0)),
        shard_bytes=shard_bytes,
        rounds=1,
        evaluation=Evaluation(every=0),
        participation=Participation(round_attempts=2, round_deadline_s=60),
    )
    async with attending(scene, LAYOUT), scene.running():
        await scene.order(start)
        assert await scene.ended(start.training_id) == "failed"
    types = await scene.types(start.training_id)
    assert (types.count("RoundRefused"), types.count("RoundAbandoned")) == (2, 2)
    ended = (await scene.events(start.training_id))[-1].data
    assert isinstance(ended, e.TrainingFailed)
    assert ended.reason == "round 0, attempt 2 of 2: all updates have the weight 0"
