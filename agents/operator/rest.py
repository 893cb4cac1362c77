"""Speaks to Warren's REST API."""

import json
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import UUID

import httpx
from pydantic import BaseModel, TypeAdapter

from agents.operator.answers import Client, Credentials, Model, Newcomer, Round, Training, User
from agents.operator.errors import NotThere, Refused, Unreachable
from schemas.catalogue import Described
from schemas.envelope import Envelope
from schemas.events import Event

A = TypeVar("A", bound=BaseModel)

_TIMEOUT_S = 60.0
_PAUSE_S = 0.2
_ENVELOPES: TypeAdapter[tuple[Envelope[Any], ...]] = TypeAdapter(tuple[Envelope[Event], ...])


class Api:
    """A caller of the API.  For `patience_s` it asks again while the API, or what that needs, is away.

    Between two tries it does what is to be done `meanwhile`.

    What was asked for may have been done though no answer came: the second asking may be refused.
    """

    def __init__(
        self,
        url: str,
        auth: httpx.Auth,
        patience_s: float = 0.0,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        self.url = url
        self._meanwhile = meanwhile
        self._patience_s = patience_s
        self._http = httpx.Client(base_url=f"{url}/api", auth=auth, timeout=_TIMEOUT_S, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def users(self) -> tuple[User, ...]:
        return self._list(User, "/users/")

    def add_user(self, name: str, password: str | None = None, **fields: Any) -> Newcomer:
        body = {"username": name, "password": password or secrets.token_urlsafe(24), **fields}
        return self._one(Newcomer, "POST", "/users/", json=body)

    def revoke_user(self, user: UUID) -> None:
        self._ask("DELETE", f"/users/{user}/")

    def user_named(self, name: str) -> User:
        """By user name or id."""
        for user in self.users():
            if name in {user.username, str(user.id)}:
                return user
        raise NotThere("user", name)

    def clients(self) -> tuple[Client, ...]:
        return self._list(Client, "/clients/")

    def client_named(self, name: str) -> Client:
        """By user name or id."""
        for client in self.clients():
            if name in {client.username, str(client.id)}:
                return client
        raise NotThere("client", name)

    def renew_credentials(self, client: UUID) -> Credentials:
        return self._one(Credentials, "POST", f"/clients/{client}/credentials/")

    def revoke(self, client: UUID) -> None:
        self._ask("DELETE", f"/clients/{client}/")

    def add_model(self, name: str, description: str, file: Path) -> UUID:
        told = {"name": name, "description": description}
        answer = self._ask(
            "POST", "/models/", data=told, files={"model_file": (file.name, file.read_bytes())}
        )
        return UUID(answer.json()["model_id"])

    def model(self, model: UUID) -> Model:
        return self._one(Model, "GET", f"/models/{model}/metadata/")

    def download(self, model: UUID, to: Path) -> None:
        """The newest version, as safetensors."""
        to.write_bytes(self._ask("GET", f"/models/{model}/", params={"format": "safetensors"}).content)

    def strategies(self) -> tuple[Described, ...]:
        return self._list(Described, "/strategies/")

    def trainings(self) -> tuple[Training, ...]:
        """Mine and those I take part in; all there are for the administrator."""
        return self._list(Training, "/trainings/", params={"role": "any"})

    def training(self, training: UUID) -> Training:
        return self._one(Training, "GET", f"/trainings/{training}/")

    def rounds(self, training: UUID) -> tuple[Round, ...]:
        return self._list(Round, f"/trainings/{training}/rounds/")

    def add_training(self, body: dict[str, Any]) -> UUID:
        return UUID(self._ask("POST", "/trainings/", json=body).json()["training_id"])

    def start(self, training: UUID) -> None:
        self._ask("POST", f"/trainings/{training}/start/")

    def abort(self, training: UUID, reason: str) -> None:
        self._ask("POST", f"/trainings/{training}/abort/", json={"reason": reason})

    def events(self, training: UUID, after: int = 0) -> tuple[Envelope[Any], ...]:
        """What happened beyond sequence `after`, up to a page of it."""
        answer = self._ask("GET", f"/trainings/{training}/events/", params={"after": after})
        return _ENVELOPES.validate_json(answer.content)

    def _one(self, model: type[A], verb: str, path: str, **request: Any) -> A:
        return model.model_validate_json(self._ask(verb, path, **request).content)

    def _list(self, model: type[A], path: str, **request: Any) -> tuple[A, ...]:
        return TypeAdapter(tuple[model, ...]).validate_json(self._ask("GET", path, **request).content)  # type: ignore[valid-type]  # a type that is an argument

    def _ask(self, verb: str, path: str, **request: Any) -> httpx.Response:
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                return self._ask_once(verb, path, **request)
            except Unreachable:
                if time.monotonic() > deadline:
                    raise
                self._meanwhile()
                time.sleep(_PAUSE_S)

    def _ask_once(self, verb: str, path: str, **request: Any) -> httpx.Response:
        try:
            answer = self._http.request(verb, path, **request)
        except httpx.HTTPError as error:
            raise Unreachable(self.url, str(error) or repr(error)) from error
        if answer.status_code >= 500:
            raise Unreachable(self.url, f"{_detail(answer)} ({answer.status_code})")
        if answer.is_error:
            raise Refused(answer.status_code, _detail(answer))
        return answer


class TokenAuth(httpx.Auth):
    def __init__(self, token: str) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Iterator[httpx.Request]:  # type: ignore[override]  # no answers are looked at
        request.headers["Authorization"] = f"Token {self._token}"
        yield request


def _detail(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (json.JSONDecodeError, KeyError, TypeError):
        return answer.text[:300] or answer.reason_phrase
