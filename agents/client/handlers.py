"""Commands in, tasks changed: what follows from a command is on disk before it counts as taken."""

import logging
from typing import ClassVar, assert_never

from agents.client.policy import Policy, refusal_of
from agents.client.tasks import Tasks
from agents.client.uplink import Uplink
from infra.broker.delivery import Delivery
from schemas.commands import CancelTask, ClientCommand, EvaluateModel, TrainingEnded, TrainRound
from schemas.envelope import decode
from schemas.ids import ClientId
from schemas.refusal import Refusal

log = logging.getLogger(__name__)

Command = TrainRound | EvaluateModel | CancelTask | TrainingEnded


class NotForUs(Refusal):
    code: ClassVar[str] = "not_for_us"

    def __init__(self, client_id: ClientId) -> None:
        super().__init__(f"the command is for client {client_id}")


async def settle(commands: "Commands", uplink: Uplink, delivery: Delivery) -> None:
    """When it returns, the delivery may be acked: it was obeyed, or is a dead letter that says why not."""
    try:
        await commands.obey(delivery.body)
    except Refusal as no:
        facts = {"code": no.code, "reason": str(no), "message_id": delivery.message_id}
        log.warning("command was refused", extra=facts)
        await uplink.refuse(delivery, f"{no.code}: {no}")


class Commands:
    def __init__(self, client: ClientId, tasks: Tasks, policy: Policy, *, keep_state: bool = True) -> None:
        self._client, self._tasks, self._policy, self._keep_state = client, tasks, policy, keep_state

    async def obey(self, body: bytes) -> None:
        """What follows is on disk when it returns.  A refusal means that it never can be obeyed."""
        await self._obey(self._read(body))

    def _read(self, body: bytes) -> Command:
        command: Command = decode(body, ClientCommand).data
        if command.client_id != self._client:
            raise NotForUs(command.client_id)
        return command

    async def _obey(self, command: Command) -> None:
        facts = {"training": str(command.training_id), "on": command.type}
        match command:
            case TrainRound() | EvaluateModel():
                await self._tasks.take(command, refusal_of(command, self._policy))
            case CancelTask():
                log.info("task was cancelled", extra={**facts, "reason": command.reason})
                await self._tasks.cancel(command.task_id)
            case TrainingEnded():
                model = str(command.model.model_id) if command.model else None
                log.info("training ended", extra={**facts, "outcome": command.outcome, "model": model})
                await self._tasks.end_training(command, keep_state=self._keep_state)
            case _:
                assert_never(command)
