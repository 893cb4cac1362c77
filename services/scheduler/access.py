"""Puts capabilities into the commands that need them, at the moment they are published."""

from datetime import datetime, timedelta

from infra.objects.tickets import Ticket, TicketOffice
from schemas.commands import Access, ClientCommand, EvaluateModel, TrainRound
from schemas.envelope import Envelope, decode, encode
from schemas.keys import update

_MARGIN = timedelta(hours=1)  # clocks differ, and an upload takes its time
_LONGEST = timedelta(days=7)  # what S3 allows


def signed(body: bytes, office: TicketOffice, now: datetime) -> bytes:
    """A stored command to a client, as it is published: with URLs if it is a task."""
    envelope: Envelope[ClientCommand] = decode(body, ClientCommand)
    command = envelope.data
    if not isinstance(command, TrainRound | EvaluateModel):
        return body
    granted = command.model_copy(update={"access": _access(command, office, now)})
    return encode(envelope.model_copy(update={"data": granted}))


def _access(command: TrainRound | EvaluateModel, office: TicketOffice, now: datetime) -> Access:
    life = min(max(command.deadline_at - now, timedelta(0)) + _MARGIN, _LONGEST)
    lives_s = int(life.total_seconds())
    download = office.download(command.model.key, now, lives_s)
    upload = _upload(command, office, now, lives_s) if isinstance(command, TrainRound) else None
    state = command.state if isinstance(command, TrainRound) else None
    return Access(
        download_url=download.url.get_secret_value(),
        upload_url=upload.url.get_secret_value() if upload else None,
        upload_headers=upload.headers if upload else {},
        state_url=office.download(state.key, now, lives_s).url.get_secret_value() if state else None,
        expires_at=download.expires_at,
    )


def _upload(command: TrainRound, office: TicketOffice, now: datetime, lives_s: int) -> Ticket:
    """An update of another size than the model's is one that was asked to hold more, or less."""
    key = update(command.training_id, command.round, command.task_id)
    has_its_size = command.extra is None and not command.partial
    return office.upload(key, command.model.size if has_its_size else None, now, lives_s)
