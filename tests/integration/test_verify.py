"""A training on real servers is computed again from its events and its bucket."""

import pytest

from schemas import keys
from schemas.events import RoundAggregated
from schemas.plan import Evaluation
from services.aggregator.verify import verdicts
from tests.recompute import trained
from tests.scene import Scene
from tests.sites import attending, honest
from tests.unit.aggregator.bench import LAYOUT

pytestmark = pytest.mark.integration


async def test_what_the_scheduler_recorded_leads_to_the_same_bits(scene: Scene) -> None:
    model = trained(LAYOUT, LAYOUT.header + bytes(LAYOUT.data_size), [1])
    no_evaluation = Evaluation(every=0)
    start = await scene.training(
        model, LAYOUT.header_size, rounds=2, shard_bytes=64, evaluation=no_evaluation
    )
    async with attending(scene, LAYOUT, honest), scene.running(aggregators=2):
        await scene.order(start)
        assert await scene.ended(start.training_id) == "completed"
    events = [envelope.data for envelope in await scene.events(start.training_id)]
    made = [event.model.sha256 for event in events if isinstance(event, RoundAggregated)]
    found = list(verdicts(events, scene.objects, {}))
    assert [(one.sha256, one.faults) for one in found[1:]] == [(sha256, ()) for sha256 in made]

    scene.objects.delete(keys.reduce_plan(start.training_id, 0, 1))
    _, first, second = verdicts(events, scene.objects, {})
    assert "there is no object" in first.faults[0]
    assert second.faults == ()
