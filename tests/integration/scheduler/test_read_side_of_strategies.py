"""What REST answers from where strategies chain, keep state and select; no worker is needed for that."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.database.engine import connect
from infra.database.tables import metrics, model_versions, models, rounds, trainings
from infra.stack.record import Endpoints
from schemas.plan import BestModel
from schemas.strategies import FedAdam, FedDC
from schemas.weights import StateRef
from schemas.words import Mode, Slot
from services.api.store.trainings import _progress
from services.scheduler.decide import Input
from services.scheduler.saga import Received, Step, step
from services.scheduler.state import Training
from services.scheduler.store import PostgresTrainings
from tests import builders as b
from tests.builders import ANA, BEN, TRAINING
from tests.databases import a_database, create, empty, enrol

pytestmark = pytest.mark.integration

ADAM = (Slot.M, Slot.V)


@dataclass
class Kept:
    engine: AsyncEngine
    store: PostgresTrainings

    async def take(self, *messages: Input, at_once: bool) -> None:
        for batch in [messages] if at_once else [(message,) for message in messages]:
            await self.store.change(TRAINING, partial(_taken, [b.received(message) for message in batch]))

    async def rows(self, statement: Any) -> list[Any]:
        async with self.engine.connect() as connection:
            return list((await connection.execute(statement)).all())


def _taken(batch: list[Received], training: Training | None, now: datetime) -> Step:
    return step(training, batch, now)


@pytest.fixture(scope="module")
def database(stack: Endpoints) -> Iterator[str]:
    with a_database(stack) as url:
        yield url


@pytest.fixture
async def kept(database: str) -> AsyncIterator[Kept]:
    engine = connect(database)
    await empty(engine)
    await enrol(engine, [(client, f"client.{client}") for client in (ANA, BEN)])
    yield Kept(engine, PostgresTrainings(engine))
    await engine.dispose()


async def begun(kept: Kept, **plan: Any) -> Input:
    start = b.start(ANA, BEN, plan=b.a_plan(**plan))
    await create(kept.engine, start)
    return start


@pytest.mark.parametrize("at_once", [True, False])
async def test_the_rounds_of_a_chain_have_ended_and_lead_to_the_version_of_their_period(
    kept: Kept, at_once: bool
) -> None:
    start = await begun(kept, rounds=4, strategy=FedDC(period=2), evaluate_every=2)
    await kept.take(
        start,
        *b.taken_in(ANA, BEN, metrics={"loss": 4.0}),
        *b.taken_in(ANA, BEN, round=1, metrics={"loss": 3.0}),
        *b.aggregation(round=1, epoch=1, version=1),
        *(b.measured(client, round=1, metrics={"auc": 0.5}) for client in (ANA, BEN)),
        *b.taken_in(ANA, BEN, round=2, metrics={"loss": 2.0}),
        at_once=at_once,
    )
    found = await kept.rows(select(rounds).order_by(rounds.c.round))
    assert [(r.round, r.state, r.arrived, r.accepted, r.ended_at is None) for r in found] == [
        (0, "chained", 2, 2, False),
        (1, "aggregated", 2, 2, False),
        (2, "chained", 2, 2, False),
        (3, "training", 0, 0, True),
    ]
    assert [(r.sha256, r.metrics, r.train_metrics) for r in found] == [
        (None, {}, {"loss": 4.0}),
        (b.a_model(1).sha256, {"auc": 0.5}, {"loss": 3.0}),
        (None, {}, {"loss": 2.0}),
        (None, {}, {}),
    ]
    steps = select(metrics.c.key, metrics.c.step, func.count()).group_by(metrics.c.key, metrics.c.step)
    assert {tuple(row) for row in await kept.rows(steps)} == {("loss", 1, 4), ("auc", 1, 2), ("loss", 2, 2)}
    (progress,) = await kept.rows(select(*_progress()).where(trainings.c.id == TRAINING))
    assert progress.rounds_completed == 3
    assert [row.version for row in await kept.rows(select(models.c.version))] == [1]


@pytest.mark.parametrize("at_once", [True, False])
async def test_state_lies_with_its_version_and_the_best_version_is_named(kept: Kept, at_once: bool) -> None:
    best = BestModel(metric="loss", mode=Mode.MIN, patience=1)
    start = await begun(kept, rounds=9, strategy=FedAdam(), evaluate_every=1, best=best)
    await kept.take(
        start,
        *b.a_round(ANA, BEN, slots=ADAM),
        *(b.measured(client, metrics={"loss": 1.0}) for client in (ANA, BEN)),
        *b.a_round(ANA, BEN, round=1, slots=ADAM),
        *(b.measured(client, round=1, metrics={"loss": 2.0}) for client in (ANA, BEN)),
        at_once=at_once,
    )
    versions = await kept.rows(select(model_versions).order_by(model_versions.c.version))
    found = [tuple(StateRef.model_validate(part, strict=False) for part in row.state) for row in versions]
    assert found == [(), b.a_state(*ADAM, version=1), b.a_state(*ADAM, version=2)]
    (training,) = await kept.rows(select(trainings))
    assert (training.state, training.best_version, training.round) == ("completed", 1, 1)
    assert training.reason == "no better loss in 1 evaluations; the best is 1.0 of version 1"


async def test_a_training_that_selects_nothing_names_no_best_version(kept: Kept) -> None:
    start = await begun(kept, evaluate_every=1)
    await kept.take(start, *b.a_round(ANA, BEN), b.measured(ANA), b.measured(BEN), at_once=True)
    (training,) = await kept.rows(select(trainings))
    assert (training.state, training.best_version, training.reason) == ("completed", None, None)
