"""The shell: a command in, its work done in a thread, a report out."""

import asyncio
import logging
from datetime import UTC, datetime
from typing import assert_never

from infra.broker.outgoing import outgoing
from infra.broker.publisher import Publisher
from schemas.commands import (
    AggregatorCommand,
    ChooseUpdates,
    InspectUpdate,
    MeasureShard,
    PublishModel,
    ReduceShard,
)
from schemas.envelope import Envelope, enclose
from schemas.identity import derived
from schemas.ids import MessageId
from schemas.refusal import Refusal
from schemas.reports import AggregatorReport, RoundRefused
from schemas.routing import FROM_AGGREGATOR, Role
from services.aggregator.work import Worker

log = logging.getLogger(__name__)


class Handlers:
    """A command is acknowledged once its report is confirmed.  What is not a refusal is tried again."""

    def __init__(self, worker: Worker, publisher: Publisher) -> None:
        self._worker = worker
        self._publisher = publisher

    async def handle(self, envelope: Envelope[AggregatorCommand]) -> None:
        report = await asyncio.to_thread(self._answer, envelope.data)
        answer = enclose(
            report,
            id=MessageId(derived("answer", envelope.id, report.type)),
            source="aggregator",
            time=datetime.now(UTC),
            causationid=envelope.id,
        )
        route = FROM_AGGREGATOR[report.type]
        key = route.key_for(report, sender=Role.AGGREGATOR)
        await self._publisher.publish(outgoing(answer, route.exchange, key))
        log.info(
            "command was done",
            extra={
                "training": str(report.training_id),
                "round": report.round,
                "on": envelope.type,
                "answered": report.type,
                "reason": getattr(report, "reason", None),
            },
        )

    def _answer(self, command: AggregatorCommand) -> AggregatorReport:
        """What no worker can combine is not tried again: the round's attempt ends with the reason."""
        try:
            return self._work(command)
        except Refusal as refusal:
            if isinstance(command, InspectUpdate):
                raise
            return RoundRefused(
                training_id=command.training_id,
                round=command.round,
                epoch=command.epoch,
                code=refusal.code,
                reason=str(refusal)[:4_000],
            )

    def _work(self, command: AggregatorCommand) -> AggregatorReport:
        match command:
            case InspectUpdate():
                return self._worker.inspect_update(command)
            case MeasureShard():
                return self._worker.measure_shard(command)
            case ChooseUpdates():
                return self._worker.choose_updates(command)
            case ReduceShard():
                return self._worker.reduce_shard(command)
            case PublishModel():
                return self._worker.publish_model(command)
            case _:
                assert_never(command)
