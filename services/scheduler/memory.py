"""The in-memory twin of the training store."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from schemas.ids import MessageId, TrainingId
from services.scheduler.orders import ClearTimer, SetTimer
from services.scheduler.posting import Post, Postings, postings
from services.scheduler.saga import Received, Step
from services.scheduler.state import Training
from services.scheduler.store import By, Committed, timer_id

Clock = Callable[[], datetime]


class MemoryTrainings:
    """Keeps what the tables keep, except the read side.  Nothing is awaited within a change: it is atomic."""

    def __init__(self, clock: Clock = lambda: datetime.now(UTC)) -> None:
        self.events: dict[TrainingId, list[Post]] = {}
        self.outbox: dict[MessageId, Post] = {}
        self.timers: dict[TrainingId, SetTimer] = {}
        self._states: dict[TrainingId, Training | None] = {}
        self._clock = clock

    def create(self, training_id: TrainingId) -> None:
        """What the REST ingress does before a training can start."""
        self._states.setdefault(training_id, None)
        self.events.setdefault(training_id, [])

    async def get(self, training_id: TrainingId) -> Training | None:
        return self._states.get(training_id)

    async def change(self, training_id: TrainingId, by: By) -> Committed:
        if training_id not in self._states:
            return Committed(Step(None))
        now = self._clock()
        step = by(self._states[training_id], now)
        found = postings(training_id, step, now)
        self._states[training_id] = step.training
        self.events[training_id] += found.events
        self._post(training_id, found)
        return Committed(step, (*found.events, *found.posts.values()))

    async def due(self) -> Sequence[Received]:
        now = self._clock()
        waiting = sorted(self.timers.values(), key=lambda timer: timer.due_at)
        return [Received(timer_id(timer), timer.message) for timer in waiting if timer.due_at <= now]

    def _post(self, training_id: TrainingId, found: Postings) -> None:
        self.outbox = {key: post for key, post in self.outbox.items() if not _is_settled(post, found)}
        for post in (*found.events, *found.posts.values()):
            self.outbox.setdefault(post.id, post)
        if isinstance(found.timer, SetTimer):
            self.timers[training_id] = found.timer
        elif isinstance(found.timer, ClearTimer):
            self.timers.pop(training_id, None)


def _is_settled(post: Post, found: Postings) -> bool:
    return post.id in found.settled or (found.settles_all and post.until_answered)
