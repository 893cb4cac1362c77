"""The shell: deliveries and due timers in, changes kept, posts out."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Protocol

from infra.broker.backoff import jittered
from infra.broker.consumer import Batch, Batches
from infra.broker.delivery import Delivery
from infra.database.faults import is_outage
from schemas.ids import TrainingId
from schemas.refusal import Refusal
from services.scheduler.admission import admitted
from services.scheduler.posting import Post
from services.scheduler.saga import Received, Step, step
from services.scheduler.state import Training
from services.scheduler.store import Committed, TrainingStore

log = logging.getLogger(__name__)


class Courier(Protocol):
    """Posts what has been committed."""

    def take(self, posts: Sequence[Post]) -> None: ...

    async def release(self, training: TrainingId) -> None:
        """Post what of this training was committed and perhaps never taken."""
        ...


Admitted = tuple[Delivery, Received]
Faults = list[tuple[Delivery, Exception]]

_TIMER_POLL_S = 0.5
_MAX_BATCH = 500


class Handlers:
    """Moves trainings forward.  A delivery is acknowledged once what follows from it is committed."""

    def __init__(self, trainings: TrainingStore, courier: Courier) -> None:
        self._trainings = trainings
        self._courier = courier

    async def consume(self, batches: Batches) -> None:
        """A background loop; it lives as long as its channel."""
        async for batch in batches.batches(_MAX_BATCH):
            await self.handle(batches, batch)

    async def handle(self, batches: Batches, batch: Batch) -> None:
        """Take a batch, each training's messages in one transaction, and settle every delivery."""
        groups = _by_training(await _admit(batches, batch))
        faults = [each for group in await self._advance_all(groups) for each in group]
        failed = {delivery.delivery_tag for delivery, _ in faults}
        done = [one for group in groups for one, _ in group if one.delivery_tag not in failed]
        if done:
            await batches.ack(done)
        for delivery, error in faults:
            await batches.retry(delivery, repr(error))

    async def fire_timers(self) -> None:
        """A background loop: time becomes messages."""
        while True:
            await self.fire_due()
            await asyncio.sleep(_TIMER_POLL_S)

    async def fire_due(self) -> None:
        """Each timer by itself: what is wrong with one training does not hold up the others."""
        for due in await self._trainings.due():
            try:
                await self._change([due])
            except Exception:  # whatever it is, the timers behind it are due as well
                log.exception("timer could not be fired", extra={"training": str(due.message.training_id)})

    async def _advance_all(self, groups: Iterable[Sequence[Admitted]]) -> list[Faults]:
        return await asyncio.gather(*map(self._advance, groups))

    async def _advance(self, group: Sequence[Admitted]) -> Faults:
        """Where the messages of a training fail together, find those that are at fault."""
        try:
            await self._change([received for _, received in group])
        except Exception as error:  # whatever it is, it must not stop the messages behind it
            if len(group) > 1:
                return [fault for one in group for fault in await self._advance([one])]
            log.exception("message could not be handled", extra={"queue": group[0][0].queue})
            return [(group[0][0], error)]
        return []

    async def _change(self, received: Sequence[Received]) -> None:
        """Keep what follows from messages of one training, and wait for a database that is away.

        A commit whose answer was lost may have happened: then this one finds nothing to do, and what that
        one was to post is still there.
        """
        training = received[0].message.training_id
        waits, was_away = jittered(), False
        while True:
            try:
                committed = await self._trainings.change(training, partial(_take_all, received))
                if was_away:
                    await self._courier.release(training)
            except Exception as error:
                if not is_outage(error):
                    raise
                log.warning("database is away", extra={"training": str(training), "why": repr(error)})
                was_away = True
                await asyncio.sleep(next(waits))
            else:
                self._courier.take(committed.posts)
                _tell(committed)
                return


def _take_all(received: Sequence[Received], training: Training | None, now: datetime) -> Step:
    return step(training, received, now)


async def _admit(batches: Batches, batch: Batch) -> list[Admitted]:
    found = []
    for delivery in batch:
        try:
            found.append((delivery, admitted(delivery)))
        except Refusal as refusal:
            log.warning("message was refused", extra={"sender": delivery.user_id, "why": str(refusal)})
            await batches.dead_letter(delivery, f"{refusal.code}: {refusal}")
    return found


def _by_training(found: Iterable[Admitted]) -> list[list[Admitted]]:
    groups: dict[TrainingId, list[Admitted]] = defaultdict(list)
    for delivery, received in found:
        groups[received.message.training_id].append((delivery, received))
    return list(groups.values())


def _tell(committed: Committed) -> None:
    state = committed.step.training
    if state is None or not committed.step.events:
        return
    log.info(
        "training advanced",
        extra={
            "training": str(state.id),
            "events": len(committed.step.events),
            "last": committed.step.events[-1].event.type,
            "state": state.state,
            "round": state.round.number if state.round else None,
            "phase": state.round.phase if state.round else None,
        },
    )
