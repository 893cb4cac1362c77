"""Models: their files, versions and metrics."""

import asyncio
import logging
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, BinaryIO, ClassVar
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import StreamingResponse
from starlette.datastructures import UploadFile

from infra.objects.store import ObjectStore
from services.api import answers, weights_files
from services.api.authorisation import Action, require
from services.api.dependencies import CallerDep, PartsDep
from services.api.errors import BadInput, Conflict
from services.api.forms import measurements
from services.api.states import Stage
from services.api.store import models, trainings
from services.api.weights_files import FileKind

log = logging.getLogger(__name__)
router = APIRouter(prefix="/api/models", tags=["models"])

MAX_INT = 2**31 - 1
_CHUNK = 2**20
_EXTENSIONS = {FileKind.STATE_DICT: "pt", FileKind.SAFETENSORS: "safetensors"}
_SAFETENSORS_TYPES = ("application/vnd.safetensors", "application/x-safetensors")

Number = Annotated[int | None, Query(ge=0, le=MAX_INT)]
Format = Annotated[FileKind | None, Query(alias="format")]


class ModelInUse(Conflict):
    code: ClassVar[str] = "model_in_use"

    def __init__(self, training_id: UUID) -> None:
        super().__init__(f"training {training_id} is running on this model; abort it first")


@router.get("/")
async def every(parts: PartsDep, caller: CallerDep) -> list[answers.Model]:
    """My own, and those of trainings I take part in."""
    async with parts.reading() as tx:
        return [answers.Model.model_validate(row) for row in await models.visible_to(tx, caller)]


@router.get("/{model_id}/", response_class=StreamingResponse)
async def download(  # noqa: PLR0913, PLR0917 -- one parameter per choice of the caller
    model_id: UUID,
    parts: PartsDep,
    caller: CallerDep,
    version: Number = None,
    kind: Format = None,
    accept: Annotated[str, Header()] = "",
) -> StreamingResponse:
    """The newest version, or another one, as a state_dict archive or as safetensors."""
    async with parts.reading() as tx:
        row = await models.get(tx, caller, model_id)
        require(caller, Action.READ, models.thing(row))
        chosen = row if version is None else await models.version(tx, model_id, version)
    kind = kind or _kind_accepted(accept)
    with TemporaryDirectory(prefix="warren-download-") as folder:
        path = await weights_files.fetch(chosen, kind, Path(folder), parts.files)
        file, size = path.open("rb"), path.stat().st_size  # the open file outlives its name
    name = f"model-{model_id}.{_EXTENSIONS[kind]}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Content-Length": str(size)}
    return StreamingResponse(_chunks(file), media_type="application/octet-stream", headers=headers)


@router.get("/{model_id}/metadata/")
async def metadata(model_id: UUID, parts: PartsDep, caller: CallerDep) -> answers.ModelMetadata:
    async with parts.reading() as tx:
        row = await models.get(tx, caller, model_id)
    require(caller, Action.READ, models.thing(row))
    stats = await weights_files.stats(row, parts.files)
    return answers.ModelMetadata(**answers.Model.model_validate(row).model_dump(), stats=stats)


@router.get("/{model_id}/versions/")
async def versions(model_id: UUID, parts: PartsDep, caller: CallerDep) -> list[answers.ModelVersion]:
    async with parts.reading() as tx:
        require(caller, Action.READ, models.thing(await models.get(tx, caller, model_id)))
        return [answers.ModelVersion.model_validate(row) for row in await models.versions(tx, model_id)]


@router.delete("/{model_id}/")
async def delete(model_id: UUID, parts: PartsDep, caller: CallerDep) -> answers.Done:
    """With its training, unless that is running."""
    async with parts.database.begin() as tx:
        row = await models.get(tx, caller, model_id, lock=True)
        require(caller, Action.DELETE, models.thing(row))
        training = await trainings.of_model(tx, model_id)
        if training and trainings.stage_of(training) is Stage.UNDER_WAY:
            raise ModelInUse(training.id)
        if training:
            await trainings.remove(tx, training.id)
        unused = await models.remove(tx, model_id)
    await _discard(parts.files, unused)
    return answers.Done(detail="model deleted")


@router.get("/{model_id}/metrics/")
async def metrics(
    model_id: UUID,
    parts: PartsDep,
    caller: CallerDep,
    after: Annotated[int, Query(ge=0, lt=2**63)] = 0,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
) -> list[answers.Metric]:
    """In the order they came; `after` is the id of the last one already known."""
    async with parts.reading() as tx:
        require(caller, Action.READ, models.thing(await models.get(tx, caller, model_id)))
        return [answers.Metric.model_validate(r) for r in await models.measured(tx, model_id, after, limit)]


@router.post("/{model_id}/metrics/", status_code=HTTPStatus.CREATED)
async def report(
    model_id: UUID, request: Request, parts: PartsDep, caller: CallerDep
) -> answers.ModelCreated:
    """Repeated `metric_names` and `metric_values`, urlencoded or multipart."""
    async with request.form(max_files=256, max_fields=1_000) as form:
        if not form:
            raise BadInput({"metric_names": ["send metric_names and metric_values as a form"]})
        names = [name for name in form.getlist("metric_names") if isinstance(name, str)]
        values = [await _value(value) for value in form.getlist("metric_values")]
    told = measurements(names, values)
    async with parts.database.begin() as tx:
        row = await models.get(tx, caller, model_id)
        require(caller, Action.REPORT, models.thing(row))
        await models.record(tx, row, caller.id, told)
    return answers.ModelCreated(detail="metrics recorded", model_id=model_id)


def _kind_accepted(accept: str) -> FileKind:
    wanted = any(kind in accept for kind in _SAFETENSORS_TYPES)
    return FileKind.SAFETENSORS if wanted else FileKind.STATE_DICT


async def _value(value: UploadFile | str) -> str | bytes:
    return value if isinstance(value, str) else await value.read()


async def _chunks(file: BinaryIO) -> AsyncIterator[bytes]:
    with file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK):
            yield chunk


async def _discard(files: ObjectStore, keys: tuple[str, ...]) -> None:
    """The rows are gone; a file that stays for now is only an orphan."""
    for key in keys:
        try:
            await asyncio.to_thread(files.delete, key)
        except Exception:  # whatever the store has to say, the model is deleted
            log.warning("file of a deleted model stayed", extra={"key": key}, exc_info=True)
