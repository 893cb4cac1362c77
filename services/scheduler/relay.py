"""Publishes what the outbox holds, until it is confirmed or answered."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from sqlalchemy import Text, Uuid, any_, bindparam, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.broker.errors import Unroutable
from infra.broker.outgoing import Outgoing
from infra.broker.publisher import Confirmed, Outcome, Publisher
from infra.database.tables import OUTBOX_CHANNEL, outbox
from infra.objects.errors import ObjectStoreUnavailable
from infra.objects.store import ObjectStore
from infra.objects.tickets import TicketOffice
from schemas.identity import task_order_id
from schemas.ids import ClientId, MessageId, TaskId, TrainingId
from schemas.refusal import Refusal
from schemas.routing import TRAINING_HEADER, Exchange
from services.scheduler.access import signed
from services.scheduler.posting import OBJECTS, Post, Stamp
from services.scheduler.store import LEASE_S

log = logging.getLogger(__name__)

_BATCH = 500
_POLL_S = 1.0
_MARK_S = 0.2
_SOON_S = 1.0  # until what could not be posted is tried again
_LONGEST_LEASE_S = 600
_NOTICE_ATTEMPTS = 8  # a notice for a client that has no queue any more is dropped then


class Relay:
    """Any number of relays may run: rows are leased, and whoever receives a message twice can tell.

    What its own process has committed it posts at once; the table is read for what others wrote, for what a
    relay that died has left, and for commands that nobody has answered.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        publisher: Publisher,
        objects: Callable[[], ObjectStore],
        office: TicketOffice,
    ) -> None:
        self._engine = engine
        self._publisher = publisher
        self._objects = objects
        self._office = office
        self._fresh: deque[Post] = deque()
        self._done: list[MessageId] = []
        self._failed: list[MessageId] = []
        self._stirred = asyncio.Event()
        self._noticed = asyncio.Event()

    def take(self, posts: Sequence[Post]) -> None:
        """Posts that have just been committed, leased to this process."""
        self._fresh.extend(posts)
        self._stirred.set()

    async def post_fresh(self) -> None:
        """A background loop."""
        while True:
            await self._stirred.wait()
            self._stirred.clear()
            while self._fresh:
                batch = [self._fresh.popleft() for _ in range(min(_BATCH, len(self._fresh)))]
                await self._post(batch)

    async def post_due(self, poll_s: float = _POLL_S) -> None:
        """A background loop: the reconciler."""
        await self._release_unconfirmed()
        while True:
            self._noticed.clear()  # before reading: what comes while we read is not missed
            while batch := await self._claim():
                await self._post(batch)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._noticed.wait(), poll_s)

    async def release(self, training: TrainingId) -> None:
        """Publish what of this training is not confirmed, whoever had leased it."""
        async with self._engine.begin() as connection:
            await connection.execute(_RELEASE.where(outbox.c.training_id == training))
        self._noticed.set()

    async def renew(self, client: ClientId, tasks: Sequence[TaskId]) -> None:
        """Publish the client's orders for these tasks again, with fresh URLs."""
        orders = [task_order_id(task) for task in tasks]
        async with self._engine.begin() as connection:
            await connection.execute(_RENEW, {"ids": orders, "client": str(client)})
        self._noticed.set()

    async def listen(self) -> None:
        """A background loop: hears at once of rows that others wrote.  Ends when its connection does."""
        ended = asyncio.Event()
        async with self._engine.connect() as connection:
            line = (await connection.get_raw_connection()).driver_connection
            assert line is not None
            line.add_termination_listener(lambda _: ended.set())
            await line.add_listener(OUTBOX_CHANNEL, lambda *_: self._noticed.set())
            await ended.wait()

    async def _post(self, posts: Sequence[Post]) -> None:
        """Objects first: the messages of the same step refer to them.  What fails is due again soon."""
        objects = [post for post in posts if post.exchange == OBJECTS]
        messages = [post for post in posts if post.exchange != OBJECTS]
        try:
            for post in objects:
                await asyncio.to_thread(self._store, post)
        except ObjectStoreUnavailable as error:
            log.warning("object was not stored", extra={"key": post.routing_key, "why": str(error)})
            self._failed.extend(each.id for each in posts)
            return
        self._done.extend(post.id for post in objects)
        made = [(post, message) for post in messages if (message := self._made(post))]
        outcomes = await self._publisher.publish_all(message for _, message in made)
        for (post, _), outcome in zip(made, outcomes, strict=True):
            self._note(post, outcome)

    def _store(self, post: Post) -> None:
        self._objects().put(post.routing_key, (post.body,), len(post.body))

    def _note(self, post: Post, outcome: Outcome) -> None:
        """The broker may be back at any moment; a queue that is gone is looked for when the lease ends."""
        if isinstance(outcome, Confirmed):
            self._done.append(post.id)
            return
        if not isinstance(outcome, Unroutable):
            self._failed.append(post.id)
        log.warning(
            "message was not confirmed",
            extra={"training": str(post.training_id), "key": post.routing_key, "why": str(outcome)},
        )

    def _made(self, post: Post) -> Outgoing | None:
        """None of a row that cannot be read: it waits for its next lease, and holds up no other."""
        try:
            return self._outgoing(post)
        except (Refusal, ValueError):
            log.exception("message could not be made", extra={"training": str(post.training_id)})
            return None

    def _outgoing(self, post: Post) -> Outgoing:
        body = post.body
        if post.exchange == Exchange.CLIENTS:
            body = signed(body, self._office, datetime.now(UTC))
        stamp = Stamp.model_validate_json(post.body)
        return Outgoing(
            exchange=post.exchange,
            key=post.routing_key,
            body=body,
            message_id=str(post.id),
            type=stamp.type,
            correlation_id=str(post.training_id),
            timestamp=stamp.time,
            headers={TRAINING_HEADER: str(post.training_id)},
        )

    async def mark(self) -> None:
        """A background loop: events and notices are done once confirmed; commands wait for their answer.

        In no hurry: many a command is answered before, and a row left unmarked is published again at worst.
        """
        while True:
            await asyncio.sleep(_MARK_S)
            if self._done or self._failed:
                await self._mark()

    async def _mark(self) -> None:
        """What is marked is forgotten only then: without the database it waits."""
        done, failed = self._done[:], self._failed[:]
        async with self._engine.begin() as connection:
            await connection.execute(_RELAXED)
            await connection.execute(_DONE, {"ids": done})
            await connection.execute(_CONFIRMED, {"ids": done})
            await connection.execute(_SOON, {"ids": failed})
        del self._done[: len(done)]
        del self._failed[: len(failed)]

    async def _claim(self) -> Sequence[Post]:
        async with self._engine.begin() as connection:
            await connection.execute(_RELAXED)
            await connection.execute(_DROP_VAIN_NOTICES)
            found = (await connection.execute(_CLAIM)).all()
        return [Post(*row[:-1]) for row in sorted(found, key=lambda row: row.position)]

    async def _release_unconfirmed(self) -> None:
        """What a process that died had leased: perhaps never published."""
        async with self._engine.begin() as connection:
            await connection.execute(_RELEASE)


# Losing one of these changes costs a repeat, so they need not wait for the disk.
_RELAXED = text("SET LOCAL synchronous_commit = off")

_is_due = outbox.c.due_at <= func.clock_timestamp()
_is_named = outbox.c.id == any_(bindparam("ids", type_=ARRAY(Uuid)))
_doublings = func.least(outbox.c.attempts, 10)  # enough for the longest lease, and no overflow after weeks
_lease_s = func.least(LEASE_S * func.power(2, _doublings), _LONGEST_LEASE_S)

_DONE = delete(outbox).where(_is_named, ~outbox.c.until_answered)
_SOON = (  # not an attempt: a broker or store that is away says nothing about who is to get it
    update(outbox)
    .where(_is_named)
    .values(
        attempts=func.greatest(outbox.c.attempts - 1, 0),
        due_at=func.clock_timestamp() + timedelta(seconds=_SOON_S),
    )
)
_CONFIRMED = update(outbox).where(_is_named, outbox.c.until_answered).values(confirmed=True)
_RENEW = (
    update(outbox)
    .where(
        _is_named,
        outbox.c.exchange == Exchange.CLIENTS,
        outbox.c.routing_key == bindparam("client", type_=Text),
    )
    .values(due_at=func.clock_timestamp())
)
_RELEASE = update(outbox).where(~outbox.c.confirmed).values(due_at=func.clock_timestamp())
_DROP_VAIN_NOTICES = delete(outbox).where(
    _is_due,
    ~outbox.c.until_answered,
    outbox.c.exchange == Exchange.CLIENTS,
    outbox.c.attempts >= _NOTICE_ATTEMPTS,
)
_CLAIM = (
    update(outbox)
    .where(
        outbox.c.id.in_(
            select(outbox.c.id)
            .where(_is_due)
            .order_by(outbox.c.position)
            .limit(_BATCH)
            .with_for_update(skip_locked=True)
        )
    )
    .values(
        attempts=outbox.c.attempts + 1,
        due_at=func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, _lease_s),
    )
    .returning(
        outbox.c.id,
        outbox.c.training_id,
        outbox.c.exchange,
        outbox.c.routing_key,
        outbox.c.body,
        outbox.c.until_answered,
        outbox.c.position,
    )
)
