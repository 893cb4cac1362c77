"""Tickets: what a site needs, and all it needs, to fetch or to leave one object."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict, SecretStr

from infra.objects.presign import Credentials, Request, presign
from infra.objects.settings import ObjectStoreSettings


class Ticket(BaseModel):
    """One request that is allowed until it expires.  Its headers must be sent exactly as they are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["GET", "PUT"]
    url: SecretStr
    headers: dict[str, str]
    expires_at: datetime


class TicketOffice:
    """Signs without asking the store: it is cheap, and never blocks."""

    def __init__(self, settings: ObjectStoreSettings) -> None:
        self._base = f"{settings.public_url or settings.url}/{settings.bucket}"
        self._credentials = Credentials(
            settings.access_key, settings.secret_key.get_secret_value(), settings.region
        )
        self._condition = {"if-none-match": "*"} if settings.write_once else {}

    def download(self, key: str, now: datetime, lives_s: int) -> Ticket:
        return self._ticket("GET", key, {}, (now, lives_s))

    def upload(self, key: str, size: int | None, now: datetime, lives_s: int) -> Ticket:
        """For an object of exactly this size, if one is given.

        A second one is refused where the store honours conditions.
        """
        length = {} if size is None else {"content-length": str(size)}
        headers = {**length, **self._condition}
        return self._ticket("PUT", key, headers, (now, lives_s))

    def _ticket(
        self, method: Literal["GET", "PUT"], key: str, headers: Mapping[str, str], life: tuple[datetime, int]
    ) -> Ticket:
        now, lives_s = life
        url = presign(Request(method, f"{self._base}/{key}", headers), self._credentials, now, lives_s)
        return Ticket(
            method=method,
            url=SecretStr(url),
            headers=dict(headers),
            expires_at=now + timedelta(seconds=lives_s),
        )
