"""A model of the world that orders go to: what is still to be answered, and when to wake up."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from schemas.commands import AggregatorCommand, ClientCommand
from schemas.ids import MessageId
from services.scheduler.orders import ClearTimer, Order, Send, SetTimer, Settle, SettleAll, StoreObject


@dataclass
class Outbox:
    """Applies orders in turn, as `services.scheduler.orders` describes them."""

    open: dict[MessageId, Send] = field(default_factory=dict)
    notices: list[ClientCommand | AggregatorCommand] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)
    timer: SetTimer | None = None
    sent: set[MessageId] = field(default_factory=set)

    def apply(self, orders: Iterable[Order]) -> None:
        for order in orders:
            self._apply(order)

    def _apply(self, order: Order) -> None:
        match order:
            case Send():
                self._send(order)
            case StoreObject():
                assert self.objects.setdefault(order.key, order.body) == order.body, "objects never change"
            case Settle():
                for each in order.ids:
                    self.open.pop(each, None)
            case SettleAll():
                self.open.clear()
            case SetTimer():
                self.timer = order
            case ClearTimer():
                self.timer = None

    def _send(self, order: Send) -> None:
        assert order.id not in self.sent, f"{order.command.type} is sent twice under one id"
        self.sent.add(order.id)
        if order.until_answered:
            self.open[order.id] = order
        else:
            self.notices.append(order.command)
