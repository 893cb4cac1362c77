"""Tables for people."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from rich.table import Table

from agents.operator import answers
from agents.operator.answers import Client, Training, User
from agents.operator.progress import Round
from schemas.ids import ClientId

_PRESENT = timedelta(seconds=15)  # three heartbeats
_DASH = "–"  # noqa: RUF001 - a dash in a table
_SHORT = 12


def users_table(users: Iterable[User]) -> Table:
    table = _table("user", "id", "kind")
    for user in users:
        kinds = [word for word, holds in (("actor", user.actor), ("client", user.client)) if holds]
        table.add_row(user.username, str(user.id), ", ".join(kinds) or "user")
    return table


def clients_table(clients: Iterable[Client], now: datetime) -> Table:
    table = _table("client", "id", "presence", "tasks")
    for client in clients:
        table.add_row(client.username, str(client.id), presence(client, now), str(client.tasks_in_hand))
    return table


def trainings_table(trainings: Iterable[Training]) -> Table:
    table = _table("training", "state", "rounds", "phase", "uploads", "last evaluation")
    for training in trainings:
        table.add_row(
            str(training.id),
            training.status.value,
            f"{training.rounds_completed}/{training.rounds}",
            training.phase or _DASH,
            f"{training.local_models_arrived}/{training.local_models_expected}",
            metrics_text(training.metrics) or _DASH,
        )
    return table


def rounds_table(rounds: Iterable[Round]) -> Table:
    table = _table("round", "updates", "train loss", "test loss", "accuracy", "seconds", "model")
    for done in rounds:
        table.add_row(
            str(done.number + 1),
            f"{done.accepted}/{done.expected}",
            figure(done.mean_of("train_loss")),
            figure(done.metrics.get("loss")),
            figure(done.metrics.get("accuracy")),
            f"{done.seconds:.2f}",
            (done.sha256 or _DASH)[:_SHORT],
        )
    return table


def past_rounds_table(rounds: Iterable[answers.Round]) -> Table:
    table = _table("round", "attempt", "state", "updates", "model", "evaluation")
    for each in rounds:
        table.add_row(
            str(each.round + 1),
            str(each.attempt),
            each.state,
            f"{each.accepted}/{each.expected}",
            (each.sha256 or _DASH)[:_SHORT],
            metrics_text(each.metrics) or _DASH,
        )
    return table


def pairs_table(pairs: Mapping[str, str]) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, value in pairs.items():
        table.add_row(name, value)
    return table


def processes_table(running: Mapping[str, int | None]) -> Table:
    table = _table("process", "state", "pid")
    for name, pid in running.items():
        table.add_row(name, "up" if pid else "down", str(pid or _DASH))
    return table


def depths_table(depths: Mapping[str, int]) -> Table:
    table = _table("queue", "messages")
    for name, depth in sorted(depths.items()):
        table.add_row(name, str(depth))
    return table


def presence(client: Client, now: datetime) -> str:
    if client.revoked_at:
        return "revoked"
    if client.seen_at is None:
        return "never seen"
    if client.leaving or now - client.seen_at > _PRESENT:
        return f"away since {client.seen_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return "present"


def name_of(client: ClientId, names: Mapping[ClientId, str]) -> str:
    return names.get(client) or str(client)[:8]


def metrics_text(metrics: Mapping[str, float]) -> str:
    return " ".join(f"{name} {figure(value)}" for name, value in sorted(metrics.items()))


def figure(value: float | None) -> str:
    return _DASH if value is None else f"{value:.4f}"


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table
