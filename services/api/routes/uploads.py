"""The one route whose bodies are large: new models."""

from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile

from schemas.message import Words
from services.api import answers, weights_files
from services.api.bodies import Name, Text
from services.api.dependencies import CallerDep, PartsDep
from services.api.errors import BadInput
from services.api.forms import input_shape
from services.api.store import models

router = APIRouter(prefix="/api/models", tags=["models"])

_FIELDS = frozenset({"name", "description", "model_file", "input_shape", "type", "round"})
_OPENAPI: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["name", "description", "model_file"],
                    "properties": {
                        "name": {"type": "string"},
                        "description": {"type": "string"},
                        "model_file": {"type": "string", "format": "binary"},
                        "input_shape": {"type": "array", "items": {"type": "string"}},
                    },
                }
            }
        },
    }
}


class NewModel(Words):
    name: Name
    description: Text


@router.post("/", status_code=HTTPStatus.CREATED, openapi_extra=_OPENAPI)
async def create(request: Request, parts: PartsDep, caller: CallerDep) -> answers.ModelCreated:
    """From a safetensors file, or from what `torch.save(model.state_dict())` wrote."""
    async with request.form(max_files=1, max_fields=64) as form:
        told, file = _described(form), _file(form)
        with TemporaryDirectory(prefix="warren-upload-") as folder:
            limit = parts.settings.max_model_bytes
            ref = await weights_files.keep(file.file, Path(folder), parts.files, limit)
    async with parts.database.begin() as tx:
        await models.add(tx, caller.id, told, ref)
    return answers.ModelCreated(detail="model created", model_id=ref.model_id)


def _described(form: FormData) -> models.Description:
    unknown = sorted(set(form) - _FIELDS)
    if unknown:
        raise BadInput({name[:100]: ["there is no such field"] for name in unknown[:5]})
    _require_global(form)
    try:
        told = NewModel.model_validate({name: form[name] for name in ("name", "description") if name in form})
    except ValidationError as error:
        raise BadInput.told_by(error) from None
    shape = input_shape([text for text in form.getlist("input_shape") if isinstance(text, str)])
    return models.Description(told.name, told.description, shape)


def _require_global(form: FormData) -> None:
    if form.get("type", "GLOBAL") != "GLOBAL":
        raise BadInput({"type": ["only GLOBAL models are made from a file"]})
    if form.get("round", "0") != "0":
        raise BadInput({"round": ["a new model starts at round 0"]})


def _file(form: FormData) -> UploadFile:
    file = form.get("model_file")
    if not isinstance(file, UploadFile):
        raise BadInput({"model_file": ["a file is required here"]})
    return file
