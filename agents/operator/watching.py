"""Follows a training and shows it: a live picture on a terminal, a line per happening elsewhere."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from uuid import UUID

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from agents.operator.console import out, say, say_encoded
from agents.operator.progress import Progress, advance
from agents.operator.rest import Api
from agents.operator.tables import metrics_text, name_of, rounds_table
from schemas import events as e
from schemas import reports as r
from schemas.envelope import Envelope, encode
from schemas.ids import ClientId

Names = Mapping[ClientId, str]
Show = Callable[[Progress, Envelope[Any]], None]
Display = AbstractContextManager[Show]

_POLL_S = 0.15
_BAR = 24


def watch(
    api: Api, training: UUID, display: Display, meanwhile: Callable[[], None] = lambda: None
) -> Progress:
    """Show the training until it ends; `meanwhile` is called between two looks at it."""
    progress = Progress()
    with display as show:
        while not progress.is_over:
            found = api.events(training, progress.seq)
            for envelope in found:
                progress = advance(progress, envelope)
                show(progress, envelope)
            if not found:
                meanwhile()
                time.sleep(_POLL_S)
            if progress.seq == 0 and (unbegun := _over_unbegun(api, training)):
                return unbegun
    return progress


def line(progress: Progress, event: e.Event, names: Names) -> str | None:
    """What is worth a line of text about this event, seen after it."""
    current = progress.current
    where = f"round {current.number + 1}/{progress.planned}" if current else "training"
    match event:
        case e.TrainingStarted():
            return f"training {event.training_id} started, clients: {len(event.participants)}"
        case e.RoundStarted():
            again = f", attempt {event.attempt}" if event.attempt > 1 else ""
            return f"{where}: {len(event.clients)} asked to train{again}"
        case r.ModelUploaded():
            assert current, "uploads belong to a round"
            arrived = f"{len(current.uploads)}/{current.expected}"
            return f"{where}: upload {arrived} from {name_of(event.client_id, names)}"
        case e.RoundAggregated() | e.RoundChained():
            return f"{where}: {_made(event)}"
        case e.EvaluationEnded():
            return f"{where}: {metrics_text(event.metrics)}"
        case _:
            return _trouble(where, event, names) or _end(event)


def picture(progress: Progress, names: Names) -> RenderableType:
    """Rounds done so far as a table; the current one as bars."""
    done = [each for each in progress.rounds if each.sha256 or each.ended_at]
    bars = Table.grid(padding=(0, 2))
    bars.add_row("rounds", _bar(len(done), progress.planned), f"{len(done)}/{progress.planned}")
    if current := progress.current:
        waited = ", ".join(name for client, name in names.items() if client not in current.uploads)
        arrived = f"{len(current.uploads)}/{current.expected}"
        note = f"{arrived}  waiting for {waited}" if waited and not progress.is_over else arrived
        bars.add_row("uploads", _bar(len(current.uploads), current.expected), note)
    return Group(rounds_table(done), bars)


def lines() -> Display:
    """For scripts: each event as it was published, on a line of its own."""
    return nullcontext(lambda _, envelope: say_encoded(encode(envelope)))


@contextmanager
def screen(names: Names) -> Iterator[Show]:
    """For people: a live picture on a terminal, a line per happening elsewhere."""
    if not out.is_terminal:
        yield lambda progress, envelope: _say(line(progress, envelope.data, names))
        return
    with Live(console=out, transient=True, refresh_per_second=8) as live:

        def show(progress: Progress, envelope: Envelope[Any]) -> None:
            _say(_trouble("training", envelope.data, names))
            live.update(picture(progress, names))

        yield show


def _over_unbegun(api: Api, training: UUID) -> Progress | None:
    """What is aborted before it was started has no events."""
    found = api.training(training)
    return Progress(state=found.status, reason=found.reason) if found.is_over else None


def _say(text: str | None) -> None:
    if text:
        say(text)


def _trouble(where: str, event: e.Event, names: Names) -> str | None:
    match event:
        case r.TaskFailed() | e.TaskReissued():
            what = (
                f"failed: {event.reason.splitlines()[0]}" if event.type == "TaskFailed" else "is asked again"
            )
            return f"{where}: {name_of(event.client_id, names)} {what}"
        case r.UpdateRejected():
            return f"{where}: update of {name_of(event.client_id, names)} rejected: {event.reason}"
        case e.ParticipantRemoved():
            return f"{where}: {name_of(event.client_id, names)} left: {event.reason}"
        case e.IntakeClosed() | e.RoundAbandoned():
            missing = ", ".join(name_of(client, names) for client in event.missing) or "nobody"
            return f"{where}: time is over, missing: {missing}"
        case _:
            return None


def _made(event: e.RoundAggregated | e.RoundChained) -> str:
    if isinstance(event, e.RoundAggregated):
        return f"model {event.model.sha256[:12]}"
    return f"{len(event.accepted)} updates are passed on"


def _end(event: e.Event) -> str | None:
    match event:
        case e.TrainingCompleted():
            return f"training completed: model {event.model.sha256}"
        case e.TrainingFailed():
            return f"training failed: {event.reason}"
        case e.TrainingAborted():
            return f"training aborted: {event.reason}"
        case _:
            return None


def _bar(done: int, total: int) -> ProgressBar:
    return ProgressBar(total=max(total, 1), completed=done, width=_BAR)
