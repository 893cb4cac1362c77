"""The OpenAPI document, with the bodies and the refusals as they really are."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

Document = dict[str, Any]

_REFUSAL: Document = {
    "type": "object",
    "description": "Fields that are wrong have a list of sentences of their own.",
    "required": ["detail", "code"],
    "properties": {"detail": {"type": "string"}, "code": {"type": "string"}},
    "additionalProperties": True,
}
_REFUSED: Document = {
    "description": "Refused: `detail` says why, `code` is for programs.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Refusal"}}},
}


def documented(app: FastAPI) -> Callable[[], Document]:
    """What `app.openapi` is to be."""

    def openapi() -> Document:
        if not app.openapi_schema:
            app.openapi_schema = truthful(
                get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
            )
        return app.openapi_schema

    return openapi


def truthful(document: Document) -> Document:
    """Moves the parts of bodies to where references look for them; says 4XX instead of FastAPI's 422."""
    components = document.setdefault("components", {}).setdefault("schemas", {})
    components["Refusal"] = _REFUSAL
    for operations in document["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            operation["responses"]["4XX"] = _REFUSED
            for content in operation.get("requestBody", {}).get("content", {}).values():
                components.update(content["schema"].pop("$defs", {}))
    for unused in ("HTTPValidationError", "ValidationError"):
        components.pop(unused, None)
    return document
