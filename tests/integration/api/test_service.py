"""The API as operators and tools see it: health, schema, faults."""

import asyncio
import json
import re
import socket

import pytest
import uvicorn
from pydantic import SecretStr

from services.api.app import create_app
from services.api.settings import Settings
from tests.integration.api.conftest import running
from tests.integration.api.drive import Api, safetensors, told

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="session")]

NOWHERE = "127.0.0.1:9"


async def test_it_is_ready_while_everything_it_needs_answers(api: Api) -> None:
    assert (await api.http.get("/health/live")).json()["status"] == "ok"
    ready = await api.http.get("/health/ready")
    assert (ready.status_code, ready.json()) == (200, {"status": "ok", "missing": []})


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({"management_url": f"http://{NOWHERE}"}, "broker"),
        ({"s3_url": f"http://{NOWHERE}"}, "object store"),
        (
            {"database_url": SecretStr(f"postgresql+asyncpg://w:w@{NOWHERE}/w"), "admin_password": None},
            "database",
        ),
    ],
)
async def test_it_is_not_ready_without_one_of_them_and_lives_on(
    api_settings: Settings, change: dict[str, object], missing: str
) -> None:
    async with running(api_settings, **change) as cut_off:
        ready = await cut_off.http.get("/health/ready")
        assert (ready.status_code, ready.json()["missing"]) == (503, [missing])
        assert (await cut_off.http.get("/health/live")).status_code == 200


async def test_without_the_database_or_the_store_callers_are_asked_to_come_again(
    api: Api, api_settings: Settings
) -> None:
    ana = await api.join()
    database = SecretStr(f"postgresql+asyncpg://w:w@{NOWHERE}/w")
    async with running(api_settings, database_url=database, admin_password=None) as cut_off:
        answer = await cut_off.http.get("/api/users/", headers={"Authorization": f"Token {ana.token}"})
        assert told(answer) == (503, "unavailable")
    async with running(api_settings, s3_url=f"http://{NOWHERE}") as cut_off:
        headers = {"Authorization": f"Token {ana.token}"}
        files, fields = {"model_file": safetensors()}, {"name": "n", "description": "d"}
        answer = await cut_off.http.post("/api/models/", data=fields, files=files, headers=headers)
        assert told(answer) == (503, "unavailable")
        assert "Retry-After" in answer.headers


async def test_the_schema_and_its_pages_are_served(api: Api) -> None:
    schema = (await api.http.get("/api/schema/")).json()
    body = schema["paths"]["/api/trainings/"]["post"]["requestBody"]["content"]["application/json"]
    assert "target_num_updates" in json.dumps(body)
    referred = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(schema)))
    assert referred == set(schema["components"]["schemas"])
    assert "$defs" not in json.dumps(schema)
    for page in ("/api/schema/swagger-ui/", "/api/schema/redoc/", "/docs"):
        assert (await api.http.get(page)).headers["content-type"].startswith("text/html")


async def test_what_is_not_there_and_what_is_not_allowed_have_a_detail_too(api: Api) -> None:
    assert told(await api.http.get("/api/nonsense/")) == (404, "not_found")
    assert told(await api.http.patch("/api/users/")) == (405, "method_not_allowed")


async def test_it_serves_over_a_real_socket(api: Api, api_settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(create_app(api_settings), log_level="error"))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(b"POST /api/trainings/x/start/ HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 401 ")
        writer.close()
        server.should_exit = True
        await task
