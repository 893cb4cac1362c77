"""The shell: a command in, its work done in a thread, a report out."""

import asyncio
import logging
from datetime import UTC, datetime

from infra.broker.outgoing import outgoing
from infra.broker.publisher import Publisher
from schemas.commands import AggregatorCommand
from schemas.envelope import Envelope, enclose
from schemas.identity import derived
from schemas.ids import MessageId
from schemas.routing import FROM_AGGREGATOR, Role
from services.aggregator.work import Worker

log = logging.getLogger(__name__)


class Handlers:
    """A command is acknowledged once its report is confirmed.  What is not a refusal is tried again."""

    def __init__(self, worker: Worker, publisher: Publisher) -> None:
        self._worker = worker
        self._publisher = publisher

    async def handle(self, envelope: Envelope[AggregatorCommand]) -> None:
        report = await asyncio.to_thread(self._worker.obey, envelope.data)
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
