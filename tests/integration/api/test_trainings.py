"""Trainings: created, started, aborted, looked at and deleted."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import func, insert, select, update

from infra.database.tables import OUTBOX_CHANNEL, clients, events, outbox, rounds, trainings
from schemas.commands import SchedulerCommand, StartTraining
from schemas.envelope import decode
from schemas.identity import order_id
from tests.integration.api.drive import Api, User, a_plan, told

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="session")]

NOBODY = "6f0a5c5e-8b1f-5a52-9a43-2d3f4b0c7e11"


async def test_a_training_has_the_demonstrators_fields_and_ours(api: Api) -> None:
    ana, site = await api.join(), await api.site()
    model = await ana.model()
    options = {"uncertainty": {"N": 5, "softmax": True}}
    id_ = await ana.training(model, (site,), options=options, participation={"min_clients": 1}, seed=7)
    seen = (await ana.call("GET", f"/trainings/{id_}/")).json()
    demonstrator = {
        "id": id_,
        "model": model,
        "actor": ana.id,
        "participants": [site.id],
        "state": "I",
        "target_num_updates": 3,
        "uncertainty_method": "MC_DROPOUT",
        "aggregation_method": "FedAvg",
        "options": options,
        "locked": False,
        "local_models_arrived": 0,
        "local_models_expected": 1,
    }
    assert {name: seen[name] for name in demonstrator} == demonstrator
    assert (seen["status"], seen["plan"]["seed"], seen["rounds_completed"]) == ("created", 7, 0)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"surprise": 1}, "surprise"),
        ({"model_id": "no-uuid"}, "model_id"),
        ({"target_num_updates": 0}, "target_num_updates"),
        ({"target_num_updates": -3}, "target_num_updates"),
        ({"target_num_updates": 10**30}, "target_num_updates"),
        ({"target_num_updates": "3"}, "target_num_updates"),
        ({"aggregation_method": "MethodK"}, "aggregation_method"),
        ({"uncertainty_method": "LAPLACE"}, "uncertainty_method"),
        ({"options": {"daisy_chain_period": "monthly"}}, "options.daisy_chain_period"),
        ({"metric_names": ["a\0"]}, "metric_names.0"),
        ({"participation": {"fraction": 2}}, "participation.fraction"),
        ({"participation": {"min_clients": True}}, "participation.min_clients"),
        ({"config": {"lr": {"nested": 1}}}, "config.lr.bool"),
        ({"seed": -1}, "seed"),
        ({"shard_bytes": 7}, "shard_bytes"),
    ],
)
async def test_fields_that_are_unknown_or_wrong_are_named(
    api: Api, change: dict[str, Any], field: str
) -> None:
    ana = await api.join()
    answer = await ana.call("POST", "/trainings/", json={**a_plan(NOBODY), **change})
    assert told(answer) == (400, "bad_input")
    assert field in answer.json()


@pytest.mark.parametrize("value", [b"NaN", b"Infinity", b"1e999"])
async def test_a_number_that_is_none_is_refused(api: Api, value: bytes) -> None:
    ana = await api.join()
    body = json.dumps({**a_plan(NOBODY), "config": {"lr": "?"}}).encode().replace(b'"?"', value)
    assert told(await ana.call("POST", "/trainings/", content=body)) == (400, "bad_input")


async def test_text_the_database_cannot_keep_is_bad_input(api: Api) -> None:
    ana = await api.join()
    body = a_plan(await ana.model(), config={"name": "nul\0"})
    assert told(await ana.call("POST", "/trainings/", json=body)) == (400, "bad_input")


async def test_only_the_owner_of_a_model_trains_it_and_only_with_enrolled_clients(api: Api) -> None:
    ana, mallory = await api.join(), await api.join()
    model = await ana.model()
    assert told(await mallory.call("POST", "/trainings/", json=a_plan(model))) == (404, "not_found")
    for stranger in (mallory.id, NOBODY):
        answer = await ana.call("POST", "/trainings/", json=a_plan(model, clients=[stranger]))
        assert told(answer) == (400, "unknown_clients")


async def test_a_start_is_one_order_to_the_scheduler_that_wakes_its_relay(api: Api) -> None:
    ana, sites = await api.join(), (await api.site(), await api.site())
    id_ = await ana.training(clients=sites)
    async with _listening(api) as notified:
        started = await ana.call("POST", f"/trainings/{id_}/start/", content=b"")
        assert started.status_code == 202
        await asyncio.wait_for(notified, 5)
    (row,) = await _orders(api, id_)
    order = decode(row.body, SchedulerCommand)
    assert (row.id, row.exchange, row.routing_key) == (
        order_id(UUID(id_), "StartTraining"),
        "commands",
        "scheduler.StartTraining",
    )
    assert isinstance(order.data, StartTraining)
    assert [str(client) for client in order.data.participants] == sorted(site.id for site in sites)
    assert (order.data.plan.rounds, order.data.model.version, order.source) == (3, 0, "api")
    assert row.until_answered
    assert (await ana.call("GET", f"/trainings/{id_}/")).json()["state"] == "O"


async def test_of_many_starts_at_once_one_counts(api: Api) -> None:
    ana, site = await api.join(), await api.site()
    id_ = await ana.training(clients=(site,))
    starts = [ana.call("POST", f"/trainings/{id_}/start/") for _ in range(8)]
    found = sorted(answer.status_code for answer in await asyncio.gather(*starts))
    assert found == [202] + [409] * 7
    assert len(await _orders(api, id_)) == 1
    assert told(await ana.call("POST", f"/trainings/{id_}/start/")) == (409, "already_started")


async def test_a_training_without_enough_clients_does_not_start(api: Api) -> None:
    ana, site = await api.join(), await api.site()
    for id_ in (
        await ana.training(),
        await ana.training(clients=(site,), participation={"min_clients": 2}),
    ):
        assert told(await ana.call("POST", f"/trainings/{id_}/start/")) == (409, "too_few_clients")


async def test_a_training_with_a_client_that_is_not_enrolled_any_more_does_not_start(api: Api) -> None:
    ana, site = await api.join(), await api.site()
    id_ = await ana.training(clients=(site,))
    async with api.parts.database.begin() as tx:  # as if it was revoked while it was being added
        await tx.execute(update(clients).where(clients.c.id == site.id).values(revoked_at=func.now()))
    assert told(await ana.call("POST", f"/trainings/{id_}/start/")) == (409, "clients_not_enrolled")


@pytest.mark.parametrize("state", ["completed", "failed", "aborted"])
async def test_nothing_about_a_training_that_is_over_can_change(api: Api, state: str) -> None:
    ana, site = await api.join(), await api.site()
    id_ = await ana.training(clients=(site,))
    await _becomes(api, id_, state)
    clients = {"clients": [site.id]}
    for verb, path, body in (
        ("POST", "start", None),
        ("POST", "abort", None),
        ("PUT", "clients", clients),
        ("DELETE", "clients", clients),
    ):
        answer = await ana.call(verb, f"/trainings/{id_}/{path}/", json=body)
        assert told(answer) == (409, "training_over")
    seen = (await ana.call("GET", f"/trainings/{id_}/")).json()
    assert (seen["state"], seen["status"]) == ("C" if state == "completed" else "E", state)
    assert await _orders(api, id_) == []


async def test_an_unstarted_training_is_aborted_at_once_and_a_started_one_by_an_order(api: Api) -> None:
    ana, site = await api.join(), await api.site()
    unstarted, started = await ana.training(), await ana.training(clients=(site,))
    assert (await ana.call("POST", f"/trainings/{unstarted}/abort/")).status_code == 202
    seen = (await ana.call("GET", f"/trainings/{unstarted}/")).json()
    assert (seen["status"], seen["reason"]) == ("aborted", "aborted by its owner")
    await ana.call("POST", f"/trainings/{started}/start/")
    for _ in range(2):
        aborted = await ana.call("POST", f"/trainings/{started}/abort/", json={"reason": "wrong data"})
        assert aborted.status_code == 202
    assert [row.routing_key for row in await _orders(api, started)] == [
        "scheduler.StartTraining",
        "scheduler.AbortTraining",
    ]
    assert decode((await _orders(api, started))[1].body, SchedulerCommand).data.reason == "wrong data"


async def test_clients_of_an_unstarted_training_change_at_once(api: Api) -> None:
    ana, one, two = await api.join(), await api.site(), await api.site()
    id_ = await ana.training(clients=(one,))
    path = f"/trainings/{id_}/clients/"
    for _ in range(2):
        assert (await ana.call("PUT", path, json={"clients": [two.id]})).status_code == 202
    assert await _participants(ana, id_) == {one.id, two.id}
    assert (await ana.call("DELETE", path, json={"clients": [one.id]})).status_code == 200
    assert await _participants(ana, id_) == {two.id}
    assert await _orders(api, id_) == []


async def test_clients_of_a_running_training_change_by_order(api: Api) -> None:
    ana, one, two = await api.join(), await api.site(), await api.site()
    id_ = await ana.training(clients=(one,))
    await ana.call("POST", f"/trainings/{id_}/start/")
    path = f"/trainings/{id_}/clients/"
    assert (await ana.call("PUT", path, json={"clients": [one.id, two.id]})).status_code == 202
    assert (await ana.call("DELETE", path, json={"clients": [one.id]})).status_code == 200
    orders = [decode(row.body, SchedulerCommand).data for row in await _orders(api, id_)][1:]
    assert [(order.type, [str(client) for client in order.clients]) for order in orders] == [
        ("AddParticipants", [two.id]),
        ("RemoveParticipants", [one.id]),
    ]
    assert await _participants(ana, id_) == {one.id}


@pytest.mark.parametrize("verb", ["PUT", "DELETE"])
async def test_clients_that_are_unknown_or_not_in_the_training_are_named(api: Api, verb: str) -> None:
    ana = await api.join()
    path = f"/trainings/{await ana.training()}/clients/"
    answer = await ana.call(verb, path, json={"clients": [NOBODY]})
    assert told(answer) == (400, "unknown_clients")
    assert NOBODY in answer.json()["detail"]
    wrongs: tuple[Any, ...] = ({"clients": []}, {"clients": ["x"]}, {"clients": NOBODY}, {}, None)
    for wrong in wrongs:
        assert told(await ana.call(verb, path, json=wrong)) == (400, "bad_input")


async def test_a_participant_reads_a_training_and_changes_nothing(api: Api) -> None:
    ana, site, mallory = await api.join(), await api.site(), await api.join()
    id_ = await ana.training(clients=(site,))
    for rest in ("", "rounds/", "events/", "models/", "models/latest/"):
        path = f"/trainings/{id_}/{rest}"
        assert (await site.call("GET", path)).status_code == 200
        assert told(await mallory.call("GET", path)) == (404, "not_found")
    body = {"clients": [site.id]}
    for verb, rest, json_ in (
        ("POST", "start/", None),
        ("POST", "abort/", None),
        ("PUT", "clients/", body),
        ("DELETE", "clients/", body),
        ("DELETE", "", None),
    ):
        path = f"/trainings/{id_}/{rest}"
        assert told(await site.call(verb, path, json=json_)) == (403, "forbidden")
        assert told(await mallory.call(verb, path, json=json_)) == (404, "not_found")
    assert await _orders(api, id_) == []


async def test_trainings_are_listed_by_role(api: Api) -> None:
    ana, site = await api.join(), await api.site()
    mine, theirs = await site.training(), await ana.training(clients=(site,))

    async def listed(path: str) -> list[str]:
        return [training["id"] for training in (await site.call("GET", path)).json()]

    assert await listed("/trainings/") == [mine]
    assert await listed("/trainings/?role=participant") == [theirs]
    assert await listed("/trainings/?role=any") == [mine, theirs]
    assert await listed("/users/trainings/") == [mine, theirs]
    assert told(await site.call("GET", "/trainings/?role=god")) == (400, "bad_input")


async def test_a_training_is_deleted_unless_it_runs_and_its_model_stays(api: Api) -> None:
    ana, site = await api.join(), await api.site()
    model = await ana.model()
    id_ = await ana.training(model, (site,))
    await ana.call("POST", f"/trainings/{id_}/start/")
    assert told(await ana.call("DELETE", f"/trainings/{id_}/")) == (409, "still_running")
    await _becomes(api, id_, "failed")
    assert (await ana.call("DELETE", f"/trainings/{id_}/")).status_code == 200
    assert told(await ana.call("GET", f"/trainings/{id_}/"))[0] == 404
    assert (await ana.call("GET", f"/models/{model}/")).status_code == 200


async def test_events_are_given_as_they_were_published_beyond_a_sequence(api: Api) -> None:
    ana = await api.join()
    id_ = await ana.training()
    stored = [{"training_id": id_, "seq": n, "type": "T", "envelope": b'{"n": %d}' % n} for n in (1, 2, 3)]
    async with api.parts.database.begin() as tx:
        await tx.execute(insert(events), stored)
    answer = await ana.call("GET", f"/trainings/{id_}/events/?after=1&limit=1")
    assert answer.content == b'[{"n": 2}]'
    assert (await ana.call("GET", f"/trainings/{id_}/events/")).json() == [{"n": n} for n in (1, 2, 3)]
    assert told(await ana.call("GET", f"/trainings/{id_}/events/?after=99999999999"))[0] == 400


async def test_rounds_and_their_last_metrics_are_shown(api: Api) -> None:
    ana = await api.join()
    id_, now = await ana.training(), datetime.now(UTC)
    done = {"training_id": id_, "attempt": 1, "expected": 2, "started_at": now}
    first = {**done, "round": 0, "state": "aggregated", "sha256": "a" * 64, "metrics": {"accuracy": 0.5}}
    second = {**done, "round": 1, "state": "training", "sha256": None, "metrics": {}}
    async with api.parts.database.begin() as tx:
        await tx.execute(insert(rounds), [first, second])
    found = (await ana.call("GET", f"/trainings/{id_}/rounds/")).json()
    assert [(one["round"], one["metrics"]) for one in found] == [(0, {"accuracy": 0.5}), (1, {})]
    seen = (await ana.call("GET", f"/trainings/{id_}/")).json()
    assert (seen["rounds_completed"], seen["metrics"]) == (1, {"accuracy": 0.5})


async def _orders(api: Api, training: str) -> list[Any]:
    async with api.parts.database.connect() as tx:
        found = select(outbox).where(outbox.c.training_id == training).order_by(outbox.c.position)
        return list((await tx.execute(found)).all())


async def _participants(user: User, training: str) -> set[str]:
    return set((await user.call("GET", f"/trainings/{training}/")).json()["participants"])


async def _becomes(api: Api, training: str, state: str) -> None:
    async with api.parts.database.begin() as tx:
        await tx.execute(update(trainings).where(trainings.c.id == training).values(state=state))


@asynccontextmanager
async def _listening(api: Api) -> AsyncIterator[asyncio.Future[None]]:
    """A future that is done once the relay has been notified."""
    url = api.parts.settings.database_url.get_secret_value().replace("+asyncpg", "")
    connection, notified = await asyncpg.connect(url), asyncio.get_running_loop().create_future()

    def wake(*_: object) -> None:
        if not notified.done():
            notified.set_result(None)

    await connection.add_listener(OUTBOX_CHANNEL, wake)
    try:
        yield notified
    finally:
        await connection.close()
