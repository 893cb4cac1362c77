"""Users, and how they prove who they are."""

import asyncio
import time

import pytest
from sqlalchemy import select

from infra.database.tables import tokens, users
from services.api.settings import Settings
from tests.integration.api.conftest import ADMIN_PASSWORD, running
from tests.integration.api.drive import Api, basic, told

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="session")]


async def test_a_new_user_gets_a_token_once_and_only_its_digest_is_kept(api: Api) -> None:
    answer = await api.register("ana-tokens", first_name="Ana", actor=True)
    assert answer.status_code == 201
    user = answer.json()
    assert (user["first_name"], user["actor"], user["client"]) == ("Ana", True, False)
    myself = await api.http.get("/api/users/myself/", headers={"Authorization": f"Token {user['token']}"})
    assert "token" not in myself.json()
    async with api.parts.database.connect() as tx:
        kept = (await tx.execute(select(tokens.c.digest, users.c.password_hash).join(users))).all()
    assert not any(user["token"] in digest or "a secret" in stored for digest, stored in kept)


@pytest.mark.parametrize("header", ["Token {token}", "token {token}", "basic-password", "basic-token"])
async def test_a_user_is_known_by_token_by_password_and_by_token_as_user_name(api: Api, header: str) -> None:
    ana = await api.join()
    values = {"basic-password": basic(ana.name, "a secret"), "basic-token": basic(ana.token, "")}
    value = values.get(header, header.format(token=ana.token))
    answer = await api.http.get("/api/users/myself/", headers={"Authorization": value})
    assert (answer.status_code, answer.json()["id"]) == (200, ana.id)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Token",
        "Token 1234",
        "Bearer abc",
        "Basic !!!",
        "Basic " + "A" * 4,
        basic("nobody", "a secret"),
        basic("admin", "wrong"),
        basic("nul\0", "x"),
        basic("wrong-token", ""),
    ],
)
async def test_anything_else_is_asked_for_a_token(api: Api, header: str | None) -> None:
    headers = {"Authorization": header} if header is not None else {}
    answer = await api.http.get("/api/trainings/", headers=headers)
    assert told(answer) == (401, "unauthenticated")
    assert answer.headers["WWW-Authenticate"] == "Token"


async def test_a_new_token_and_a_new_password_void_the_old_ones_at_once(api: Api) -> None:
    ana = await api.join()
    login = {"Authorization": basic(ana.name, "a secret")}
    assert (await api.http.get("/api/users/myself/", headers=login)).status_code == 200
    changed = await ana.call("POST", "/users/myself/password/", json={"password": "another"})
    assert changed.status_code == 200
    assert (await api.http.get("/api/users/myself/", headers=login)).status_code == 401
    renewed = await ana.call("POST", "/users/myself/token/")
    assert renewed.status_code == 201
    assert (await ana.call("GET", "/users/myself/")).status_code == 401
    token = {"Authorization": f"Token {renewed.json()['token']}"}
    assert (await api.http.get("/api/users/myself/", headers=token)).status_code == 200


async def test_of_tokens_asked_for_at_once_one_is_valid(api: Api) -> None:
    ana = await api.join()
    asked = await asyncio.gather(*(ana.call("POST", "/users/myself/token/") for _ in range(5)))
    tokens_ = [answer.json()["token"] for answer in asked if answer.status_code == 201]
    headers = [{"Authorization": f"Token {token}"} for token in tokens_]
    found = [(await api.http.get("/api/users/myself/", headers=each)).status_code for each in headers]
    assert found.count(200) == 1


async def test_a_revoked_user_is_shut_out_at_once_and_a_site_is_revoked_as_one(api: Api) -> None:
    ana, mallory, site = await api.join(), await api.join(), await api.site()
    login = {"Authorization": basic(ana.name, "a secret")}
    assert (await api.http.get("/api/users/myself/", headers=login)).status_code == 200
    assert told(await mallory.call("DELETE", f"/users/{ana.id}/")) == (403, "forbidden")
    assert (await ana.call("DELETE", f"/users/{ana.id}/")).status_code == 200
    assert (await ana.call("GET", "/users/myself/")).status_code == 401
    assert (await api.http.get("/api/users/myself/", headers=login)).status_code == 401
    assert told(await site.call("DELETE", f"/users/{site.id}/")) == (409, "is_a_site")


async def test_others_see_neither_email_nor_endpoint(api: Api) -> None:
    ana = await api.join(email="ana@example.org", message_endpoint="https://ana.example.org/in")
    ben = await api.join()
    private = {"email", "message_endpoint"}
    assert private <= (await ana.call("GET", f"/users/{ana.id}/")).json().keys()
    assert not private & (await ben.call("GET", f"/users/{ana.id}/")).json().keys()
    listed = (await ben.call("GET", "/users/")).json()
    assert ana.id in {user["id"] for user in listed}
    assert not any(private & user.keys() for user in listed)


async def test_the_administrator_of_the_settings_may_see_what_is_private(api: Api) -> None:
    ana = await api.join(email="ana@example.org")
    admin = {"Authorization": basic("admin", ADMIN_PASSWORD)}
    seen = await api.http.get(f"/api/users/{ana.id}/", headers=admin)
    assert seen.json()["email"] == "ana@example.org"


@pytest.mark.parametrize(
    "field",
    [
        {"admin": True},
        {"is_superuser": True},
        {"username": "with space"},
        {"username": "nul\0"},
        {"password": ""},
        {"password": 5},
        {"client": "yes"},
        {"email": "a" * 300},
        {"first_name": "nul\0"},
        {"message_endpoint": "file:///etc/passwd"},
    ],
)
async def test_fields_that_are_unknown_or_wrong_are_named(api: Api, field: dict[str, object]) -> None:
    answer = await api.register("mallory", **field)
    assert told(answer) == (400, "bad_input")
    assert isinstance(answer.json()[next(iter(field))], list)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'"x"', b"\xff", b'{"username": NaN}', b"[" * 100_000, b'{"username":"\\ud800"}'],
)
async def test_what_is_no_json_object_is_refused(api: Api, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    assert told(await api.http.post("/api/users/", content=body, headers=headers)) == (400, "bad_input")


async def test_a_body_of_more_than_a_mebibyte_is_not_read(api: Api) -> None:
    answer = await api.register("ana-huge", first_name="a" * 2**20)
    assert told(answer)[0] == 413


async def test_a_user_name_is_taken_once(api: Api) -> None:
    ana = await api.join()
    assert told(await api.register(ana.name)) == (409, "name_taken")


async def test_ids_are_the_servers_to_give_unless_the_operator_lets_clients_choose(
    api: Api, api_settings: Settings
) -> None:
    chosen = "0e9f0c7e-53a5-5d0b-9c4e-1fd4f3b2a001"
    assert told(await api.register("chooser", client=True, id=chosen)) == (403, "ids_are_given")
    async with running(api_settings, choose_ids=True) as lenient:
        assert told(await lenient.register("chooser", id=chosen)) == (403, "ids_are_given")
        assert (await lenient.join("chooser", client=True, id=chosen)).id == chosen
        assert told(await lenient.register("other", client=True, id=chosen)) == (409, "name_taken")


async def test_where_registration_is_closed_only_the_administrator_makes_users(
    api_settings: Settings,
) -> None:
    async with running(api_settings, open_registration=False) as api:
        assert told(await api.register("mallory"))[0] == 401
        admin = {"Authorization": basic("admin", ADMIN_PASSWORD)}
        body = {"username": "by-admin", "password": "x"}
        made = await api.http.post("/api/users/", json=body, headers=admin)
        assert made.status_code == 201
        token = {"Authorization": f"Token {made.json()['token']}"}
        again = await api.http.post("/api/users/", json={**body, "username": "by-user"}, headers=token)
        assert told(again) == (403, "registration_closed")


@pytest.mark.parametrize("path", ["users/{}", "clients/{}", "models/{}", "trainings/{}"])
@pytest.mark.parametrize("id_", ["6f0a5c5e-8b1f-5a52-9a43-2d3f4b0c7e11", "no-uuid", "0"])
async def test_an_id_that_names_nothing_is_not_found(api: Api, path: str, id_: str) -> None:
    ana = await api.join()
    assert told(await ana.call("GET", f"/{path.format(id_)}/")) == (404, "not_found")


async def test_a_repeated_password_is_not_hashed_again(api: Api) -> None:
    ana = await api.join()
    login = {"Authorization": basic(ana.name, "a secret")}
    took = []
    for _ in range(20):
        started = time.perf_counter()
        assert (await api.http.get("/api/users/myself/", headers=login)).status_code == 200
        took.append(time.perf_counter() - started)
    assert min(took) < 0.015  # hashing alone takes longer


async def test_paths_answer_without_their_slash_and_without_redirect(api: Api) -> None:
    ana = await api.join()
    assert (await ana.call("GET", "/users/myself")).status_code == 200
    assert (await api.http.post("/api/users", json={})).status_code == 400
