"""Sites: enrolled in the broker, seen, revoked."""

from uuid import UUID

import aio_pika
import pytest
from sqlalchemy import select, update

from infra.database.tables import clients, outbox, participants
from schemas.ids import ClientId
from services.api.settings import Settings
from tests.integration.api.conftest import ADMIN_PASSWORD, running
from tests.integration.api.drive import Api, User, basic, told

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="session")]


async def test_a_new_client_is_given_what_its_agent_needs(api: Api) -> None:
    site = await api.site()
    assert set(site.credentials) == {"client_id", "amqp_url", "queue"}
    assert site.credentials["client_id"] == site.id
    assert await _queue_can_be_read(site)


async def test_clients_are_listed_with_their_presence_and_without_their_queue(api: Api) -> None:
    site, ana = await api.site(), await api.join()
    async with api.parts.database.begin() as tx:
        await tx.execute(update(clients).where(clients.c.id == site.id).values(tasks_in_hand=2, version="1"))
    listed = (await ana.call("GET", "/clients/")).json()
    seen = next(client for client in listed if client["id"] == site.id)
    assert (seen["username"], seen["tasks_in_hand"], seen["leaving"]) == (site.name, 2, False)
    assert "queue" not in seen
    assert ana.id not in {client["id"] for client in listed}
    assert (await ana.call("GET", f"/clients/{site.id}/")).json() == seen


async def test_new_credentials_void_the_old_ones_and_keep_the_queue(api: Api) -> None:
    site = await api.site()
    renewed = await site.call("POST", f"/clients/{site.id}/credentials/")
    assert renewed.status_code == 201
    assert renewed.json()["queue"] == site.credentials["queue"]
    with pytest.raises(aio_pika.exceptions.AMQPError):
        await _queue_can_be_read(site)
    assert await _queue_can_be_read(User(api.http, site.id, site.name, site.token, renewed.json()))


@pytest.mark.parametrize("verb", ["DELETE", "POST"])
async def test_a_stranger_may_neither_revoke_a_client_nor_get_its_credentials(api: Api, verb: str) -> None:
    site, mallory = await api.site(), await api.join()
    path = f"/clients/{site.id}/" + ("credentials/" if verb == "POST" else "")
    assert told(await mallory.call(verb, path)) == (403, "forbidden")
    assert await _queue_can_be_read(site)


async def test_a_revoked_client_is_shut_out_everywhere(api: Api) -> None:
    site = await api.site()
    admin = {"Authorization": basic("admin", ADMIN_PASSWORD)}
    for _ in range(2):  # revoked again, nothing changes
        assert (await api.http.delete(f"/api/clients/{site.id}/", headers=admin)).status_code == 200
    assert told(await site.call("GET", "/users/myself/")) == (401, "unauthenticated")
    login = {"Authorization": basic(site.name, "a secret")}
    assert (await api.http.get("/api/users/myself/", headers=login)).status_code == 401
    with pytest.raises(aio_pika.exceptions.AMQPError):
        await _queue_can_be_read(site)
    renewed = await api.http.post(f"/api/clients/{site.id}/credentials/", headers=admin)
    assert told(renewed) == (409, "client_revoked")


async def test_the_trainings_of_a_revoked_client_go_on_without_it(api: Api) -> None:
    owner, site, other = await api.join(), await api.site(), await api.site()
    waiting = await owner.training(clients=(site, other))
    running_ = await owner.training(clients=(site, other))
    await owner.call("POST", f"/trainings/{running_}/start/")
    assert (await site.call("DELETE", f"/clients/{site.id}/")).status_code == 200
    async with api.parts.database.connect() as tx:
        left = select(participants.c.client_id).where(participants.c.training_id == waiting)
        assert set((await tx.execute(left)).scalars()) == {UUID(other.id)}
        orders = select(outbox.c.routing_key).where(outbox.c.training_id == running_)
        assert "scheduler.RemoveParticipants" in (await tx.execute(orders)).scalars().all()


async def test_without_the_broker_nobody_is_enrolled_and_the_caller_may_try_again(
    api: Api, api_settings: Settings
) -> None:
    async with running(api_settings, management_url="http://127.0.0.1:9") as cut_off:
        answer = await cut_off.register("unlucky", client=True)
        assert told(answer) == (503, "unavailable")
        assert "Retry-After" in answer.headers
    assert (await api.register("unlucky", client=True)).status_code == 201


async def test_a_login_left_by_a_crash_is_replaced_when_its_client_is_enrolled(
    api: Api, api_settings: Settings
) -> None:
    id_ = ClientId(UUID(int=77))
    await api.parts.broker.enrol_client(id_, "orphan", f"client.{id_}.orphan")
    async with running(api_settings, choose_ids=True) as lenient:
        site = await lenient.join("chooser", client=True, id=str(id_))
    assert await _queue_can_be_read(site)


async def _queue_can_be_read(site: User) -> bool:
    async with await aio_pika.connect(site.credentials["amqp_url"]) as connection:
        channel = await connection.channel()
        queue = await channel.get_queue(site.credentials["queue"], ensure=False)
        await queue.get(fail=False)
    return True
