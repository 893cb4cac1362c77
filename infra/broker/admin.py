"""The broker's administration over its management HTTP API: topology, clients, integrators."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, ClassVar, Self
from urllib.parse import quote

import httpx

from infra.broker.differences import differences
from infra.broker.errors import BrokerUnavailable
from infra.broker.permissions import CLIENT_LIMITS, Grant, client_permissions, integrator_permissions
from infra.broker.topology import VHOST, Definitions, integrator_queue
from schemas.ids import ClientId
from schemas.refusal import Refusal
from schemas.routing import Exchange

_POLL_S = 0.05
_READY_TIMEOUT_S = 30.0
_WELL = frozenset({"running", "idle", "flow"})


class AdministrationRefused(Refusal):
    """The management API said no: wrong login, or a request that contradicts what is there."""

    code: ClassVar[str] = "administration_refused"

    def __init__(self, what: str, status: int, why: str) -> None:
        super().__init__(f"the broker's management refused {what} ({status}): {why[:500]}")


class BrokerAdmin:
    """Every method may be repeated: the second time changes nothing.

    `settle_s`: a quorum queue or stream younger than this is lost for ever if its broker is killed (3.10,
    still reported on current versions of RabbitMQ), so `declare` returns only when the new ones are older.
    """

    def __init__(self, url: str, user: str, password: str, vhost: str = VHOST, settle_s: float = 2.0) -> None:
        self.vhost = vhost
        self._url = url
        self._user = user
        self._settle_s = settle_s
        self._http = httpx.AsyncClient(
            base_url=f"{url}/api", auth=(user, password), timeout=30.0, trust_env=False
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def declare(self, definitions: Definitions) -> None:
        """Load the definitions, then wait until what they name is there to stay."""
        await self._put(f"vhosts/{self._vhost}", {})
        await self._grant(self._user, Grant(write=".*", read=".*"), configure=".*")
        before = {queue["name"] for queue in await self._queues()}
        await self._call("POST", "definitions", definitions)
        new = [queue for queue in definitions["queues"] if queue["name"] not in before]
        if any(_is_replicated(queue) for queue in new):
            await asyncio.sleep(self._settle_s)
        await self._until_up()

    async def check(self, definitions: Definitions) -> tuple[str, ...]:
        """What is missing, different or not running, in words; nothing if all is well."""
        actual = await self._call("GET", "definitions")
        found = differences(definitions, actual, self.vhost)
        if any(vhost["name"] == self.vhost for vhost in actual["vhosts"]):
            found += tuple(f"queue {name} is not running" for name in await self._down())
        return found

    async def enrol_client(self, client_id: ClientId, password: str, queue: str) -> None:
        """A queue that gets the client's orders, and a login with the client's rights on it."""
        await self._queue_bound_to(queue, Exchange.CLIENTS, (str(client_id),))
        await self._login(str(client_id), password, client_permissions(client_id, queue))

    async def ensure_client_queues(self, queues: Mapping[ClientId, str]) -> tuple[ClientId, ...]:
        """Make those queues again that are missing; answers whose they are."""
        there = {queue["name"] for queue in await self._queues()}
        missing = {client: queue for client, queue in queues.items() if queue not in there}
        for client, queue in missing.items():
            await self._queue_bound_to(queue, Exchange.CLIENTS, (str(client),))
        return tuple(missing)

    async def revoke_client(self, client_id: ClientId, queue: str) -> None:
        """The broker closes the connections of a login that is deleted."""
        await self._delete(f"users/{client_id}")
        await self._delete(f"queues/{self._vhost}/{quote(queue, safe='')}")

    async def add_integrator(self, name: str, password: str, bindings: Iterable[str]) -> str:
        """A queue for the events with such keys, and a login of the same name that may only read it.

        The name is returned.  It has a prefix, so that an integrator cannot take a service's login.
        """
        queue = integrator_queue(name)
        await self._queue_bound_to(queue, Exchange.EVENTS, bindings)
        await self._login(queue, password, integrator_permissions(queue))
        return queue

    async def remove_integrator(self, name: str) -> None:
        queue = quote(integrator_queue(name), safe="")
        await self._delete(f"users/{queue}")
        await self._delete(f"queues/{self._vhost}/{queue}")

    async def depths(self) -> dict[str, int]:
        """How many messages lie in each queue; the broker refreshes this every few seconds."""
        return {queue["name"]: queue.get("messages", 0) for queue in await self._queues()}

    async def drop_connections(self, login: str) -> None:
        """Close every connection of a login, on all virtual hosts; who still has a login comes back."""
        await self._delete(f"connections/username/{quote(login, safe='')}")

    async def delete_vhost(self) -> None:
        """All queues and messages in it go with it."""
        await self._delete(f"vhosts/{self._vhost}")

    async def _queue_bound_to(self, queue: str, exchange: Exchange, keys: Iterable[str]) -> None:
        place = f"{self._vhost}/{quote(queue, safe='')}"
        await self._put(f"queues/{place}", {"durable": True, "arguments": {"x-queue-type": "classic"}})
        for key in keys:
            body = {"routing_key": key}
            await self._call("POST", f"bindings/{self._vhost}/e/{exchange}/q/{quote(queue, safe='')}", body)

    async def _login(self, name: str, password: str, grant: Grant) -> None:
        user = quote(name, safe="")
        await self._put(f"users/{user}", {"password": password, "tags": ""})
        for limit, value in CLIENT_LIMITS.items():
            await self._put(f"user-limits/{user}/{limit}", {"value": value})
        await self._grant(name, grant)

    async def _grant(self, name: str, grant: Grant, *, configure: str | None = None) -> None:
        user = quote(name, safe="")
        rights = {**grant.permissions, **({"configure": configure} if configure else {})}
        for topic in grant.topics:
            await self._put(f"topic-permissions/{self._vhost}/{user}", topic)
        await self._put(f"permissions/{self._vhost}/{user}", rights)

    async def _until_up(self) -> None:
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while down := await self._down():
            if time.monotonic() > deadline:
                raise BrokerUnavailable(self._url, f"these queues do not run: {', '.join(down)}")
            await asyncio.sleep(_POLL_S)

    async def _down(self) -> tuple[str, ...]:
        """Queues without a leader.  A queue's first seconds are no news: its state is told by and by."""
        return tuple(q["name"] for q in await self._queues() if q.get("state", "running") not in _WELL)

    async def _queues(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = await self._call("GET", f"queues/{self._vhost}")
        return found

    @property
    def _vhost(self) -> str:
        return quote(self.vhost, safe="")

    async def _put(self, path: str, body: Any) -> None:
        await self._call("PUT", path, body)

    async def _delete(self, path: str) -> None:
        await self._call("DELETE", path, missing_is_fine=True)

    async def _call(self, verb: str, path: str, body: Any = None, *, missing_is_fine: bool = False) -> Any:
        try:
            answer = await self._http.request(verb, path, json=body)
        except httpx.HTTPError as error:
            raise BrokerUnavailable(self._url, f"its management does not answer ({error!r})") from error
        if answer.status_code >= 500:
            raise BrokerUnavailable(self._url, f"its management answered {answer.status_code}")
        if answer.status_code == 404 and missing_is_fine:
            return None
        if answer.is_error:
            raise AdministrationRefused(f"{verb} {path}", answer.status_code, answer.text)
        return answer.json() if answer.content else None


def _is_replicated(queue: dict[str, Any]) -> bool:
    return queue["arguments"]["x-queue-type"] in {"quorum", "stream"}
