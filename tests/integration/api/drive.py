"""Drives the API as its callers do."""

import io
import json
from base64 import b64encode
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
import torch
from safetensors.torch import save

from services.api.parts import Parts

TENSORS = {"weight": torch.arange(6, dtype=torch.float32).reshape(2, 3), "bias": torch.zeros(2)}


@dataclass(frozen=True)
class User:
    """Somebody who calls with a token."""

    http: httpx.AsyncClient
    id: str
    name: str
    token: str
    credentials: dict[str, str] = field(default_factory=dict)

    async def call(self, verb: str, path: str, **request: Any) -> httpx.Response:
        headers = {"Authorization": f"Token {self.token}", **request.pop("headers", {})}
        return await self.http.request(verb, f"/api{path}", headers=headers, **request)

    async def model(self, **fields: Any) -> str:
        answer = await self.upload(safetensors(), **fields)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["model_id"])

    async def upload(self, content: bytes, **fields: Any) -> httpx.Response:
        told = {"name": "digits", "description": "a small model", **fields}
        return await self.call("POST", "/models/", data=told, files={"model_file": ("model_file", content)})

    async def training(self, model: str | None = None, clients: "tuple[User, ...]" = (), **more: Any) -> str:
        told = a_plan(model or await self.model(), clients=[client.id for client in clients], **more)
        answer = await self.call("POST", "/trainings/", json=told)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["training_id"])


@dataclass(frozen=True)
class Api:
    http: httpx.AsyncClient
    parts: Parts

    async def join(self, name: str = "user", **fields: Any) -> User:
        answer = await self.register(f"{name}-{uuid4().hex[:8]}", **fields)
        assert answer.status_code == 201, answer.text
        told = answer.json()
        return User(self.http, told["id"], told["username"], told["token"], told.get("credentials", {}))

    async def site(self, name: str = "site") -> User:
        return await self.join(name, client=True)

    async def register(self, name: str, **fields: Any) -> httpx.Response:
        body = {"username": name, "password": "a secret", **fields}
        return await self.http.post("/api/users/", json=body)


def a_plan(model: str, **more: Any) -> dict[str, Any]:
    """A training as the demonstrator's scripts create it."""
    return {
        "model_id": model,
        "target_num_updates": 3,
        "metric_names": ["accuracy"],
        "aggregation_method": "FedAvg",
        "uncertainty_method": "MC_DROPOUT",
        "clients": [],
        **more,
    }


def safetensors(tensors: dict[str, torch.Tensor] = TENSORS) -> bytes:
    return save(tensors)


def state_dict() -> bytes:
    file = io.BytesIO()
    torch.save(TENSORS, file)
    return file.getvalue()


def basic(username: str, password: str) -> str:
    return "Basic " + b64encode(f"{username}:{password}".encode()).decode()


def told(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of a refusal; every refusal has a sentence too."""
    body = json.loads(answer.content)
    assert isinstance(body["detail"], str)
    assert body["detail"]
    return answer.status_code, body["code"]
