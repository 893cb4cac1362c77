"""Why a set of updates is not combined."""

from typing import ClassVar

from schemas.ids import ClientId
from schemas.refusal import Refusal


class NoUpdates(Refusal):
    code: ClassVar[str] = "no_updates"

    def __init__(self) -> None:
        super().__init__("there are no updates to combine")


class ClientTwice(Refusal):
    code: ClassVar[str] = "client_twice"

    def __init__(self, client_id: ClientId) -> None:
        self.client_id = client_id
        super().__init__(f"client {client_id} has more than one update in the round")


class TooFewUpdates(Refusal):
    code: ClassVar[str] = "too_few_updates"

    def __init__(self, strategy: str, updates: int, least: int) -> None:
        self.strategy, self.updates, self.least = strategy, updates, least
        super().__init__(f"{strategy} needs at least {least} updates and has {updates}")


class TooManyUpdates(Refusal):
    code: ClassVar[str] = "too_many_updates"

    def __init__(self, strategy: str, updates: int, most: int) -> None:
        self.strategy, self.updates, self.most = strategy, updates, most
        super().__init__(f"{strategy} compares at most {most} updates with one another and has {updates}")


class NothingWeighs(Refusal):
    code: ClassVar[str] = "nothing_weighs"

    def __init__(self) -> None:
        super().__init__("all updates have the weight 0")


class NotMeasured(Refusal):
    code: ClassVar[str] = "not_measured"

    def __init__(self, client_id: ClientId) -> None:
        self.client_id = client_id
        super().__init__(f"the update of client {client_id} has no distance from the current model")


class NoLoss(Refusal):
    code: ClassVar[str] = "no_loss"

    def __init__(self, client_id: ClientId, metric: str) -> None:
        self.client_id, self.metric = client_id, metric
        super().__init__(f"client {client_id} has not told its {metric!r}, which its weight follows from")


class NegativeLoss(Refusal):
    code: ClassVar[str] = "negative_loss"

    def __init__(self, client_id: ClientId, loss: float) -> None:
        self.client_id, self.loss = client_id, loss
        super().__init__(f"client {client_id} has told a loss of {loss}; it must be 0 or more")


class LossOutOfRange(Refusal):
    code: ClassVar[str] = "loss_out_of_range"

    def __init__(self, client_id: ClientId, loss: float, q: float) -> None:
        self.client_id, self.loss, self.q = client_id, loss, q
        super().__init__(f"the loss {loss} of client {client_id} to the power of q={q} is out of range")


class StepOutOfRange(Refusal):
    code: ClassVar[str] = "step_out_of_range"

    def __init__(self, strategy: str) -> None:
        self.strategy = strategy
        super().__init__(f"a step of {strategy} leads to numbers beyond every float64")


class ResultOutOfRange(Refusal):
    code: ClassVar[str] = "result_out_of_range"

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        super().__init__(f"a result is beyond every number of the tensor's dtype {dtype}")


class NotChosen(Refusal):
    code: ClassVar[str] = "not_chosen"

    def __init__(self, strategy: str) -> None:
        self.strategy = strategy
        super().__init__(f"{strategy} has not chosen yet which of the updates to combine")


class RuleUnknown(Exception):
    """A fault: another worker may have the rule."""

    def __init__(self, rule: str) -> None:
        self.rule = rule
        super().__init__(f"this worker has no rule called {rule!r}")


class RuleMisbehaved(Refusal):
    code: ClassVar[str] = "rule_misbehaved"

    def __init__(self, rule: str, why: str) -> None:
        self.rule = rule
        super().__init__(f"the rule {rule!r} {why}")
