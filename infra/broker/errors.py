"""What can go wrong between us and the broker."""

from typing import ClassVar

from schemas.refusal import Refusal


class BrokerFault(Exception):
    """Nobody's mistake: try again later."""


class BrokerUnavailable(BrokerFault):
    def __init__(self, place: str, why: str) -> None:
        super().__init__(f"the broker at {place} cannot be used: {why}")


class ChannelDied(BrokerFault):
    """The channel or its connection is gone: unacked deliveries come again, their old tags are void."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the channel to the broker died: {why}")


class PublishFault(BrokerFault):
    """A message was not, or perhaps not, taken."""


class Unroutable(PublishFault):
    def __init__(self, exchange: str, key: str) -> None:
        self.exchange = exchange
        self.key = key
        super().__init__(f"nobody takes messages from exchange {exchange!r} with key {key!r}")


class PublishRefused(PublishFault):
    def __init__(self, exchange: str, key: str) -> None:
        super().__init__(f"a queue behind exchange {exchange!r}, key {key!r} takes no more: it is full")


class OutcomeUnknown(PublishFault):
    """Publish again with the same message id; whoever consumes it tells repeats by that."""

    def __init__(self, exchange: str, key: str) -> None:
        super().__init__(f"no confirmation came for a message to exchange {exchange!r} with key {key!r}")


class LoginRefused(Refusal):
    code: ClassVar[str] = "login_refused"

    def __init__(self, login: str, place: str) -> None:
        super().__init__(f"the broker at {place} does not know login {login!r} with this password")


class Forged(Refusal):
    """The broker does not vouch for the message's sender."""

    code: ClassVar[str] = "forged"
