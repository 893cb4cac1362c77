"""The shell around the saga, without a broker."""

from collections.abc import Sequence
from uuid import UUID

import pytest

from schemas.ids import TrainingId
from schemas.timers import RoundTimedOut
from services.scheduler.handlers import Handlers
from services.scheduler.memory import MemoryTrainings
from services.scheduler.orders import SetTimer
from services.scheduler.posting import Post
from services.scheduler.store import By, Committed
from tests import builders as b
from tests.builders import ANA, TRAINING

OTHER = TrainingId(UUID(int=0x0E1))


class LosesItsFirstAnswer(MemoryTrainings):
    """Commits, but the first time nobody is told."""

    def __init__(self) -> None:
        super().__init__()
        self.is_lost = True

    async def change(self, training_id: TrainingId, by: By) -> Committed:
        committed = await super().change(training_id, by)
        if self.is_lost:
            self.is_lost = False
            raise ConnectionError("the connection was lost in COMMIT")
        return committed


class Courier:
    def __init__(self) -> None:
        self.posts: list[Post] = []
        self.released: list[TrainingId] = []

    def take(self, posts: Sequence[Post]) -> None:
        self.posts += posts

    async def release(self, training: TrainingId) -> None:
        self.released.append(training)


async def test_what_a_lost_answer_had_committed_is_posted_all_the_same() -> None:
    trainings, courier = LosesItsFirstAnswer(), Courier()
    trainings.create(TRAINING)
    await Handlers(trainings, courier)._change([b.received(b.start(ANA))])
    assert courier.released == [TRAINING]
    assert courier.posts == []  # done already: the outbox has them
    assert [post.routing_key.split(".")[-1] for post in trainings.events[TRAINING]] == [
        "TrainingStarted",
        "RoundStarted",
    ]


async def test_a_timer_that_cannot_be_fired_holds_up_no_other() -> None:
    asked = []

    class Broken(MemoryTrainings):
        async def change(self, training_id: TrainingId, by: By) -> Committed:
            asked.append(training_id)
            raise ValueError("a bug")

    trainings = Broken(lambda: b.NOON)
    for training in (TRAINING, OTHER):
        timer = RoundTimedOut(training_id=training, round=0, attempt=1)
        trainings.timers[training] = SetTimer(timer, b.NOON)
    await Handlers(trainings, Courier()).fire_due()
    assert asked == [TRAINING, OTHER]


async def test_what_is_wrong_for_good_is_not_tried_again() -> None:
    class Broken(MemoryTrainings):
        async def change(self, training_id: TrainingId, by: By) -> Committed:
            raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        await Handlers(Broken(), Courier())._change([b.received(b.start(ANA))])
