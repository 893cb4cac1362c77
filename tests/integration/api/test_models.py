"""Models: uploaded, kept in canonical form, downloaded, deleted."""

import io
import zipfile
from collections.abc import AsyncIterator

import pytest
import torch
from safetensors.torch import save
from sqlalchemy import select, update

from infra.database.tables import model_versions, outbox, trainings
from tests.integration.api.drive import TENSORS, Api, safetensors, state_dict, told

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="session")]


@pytest.mark.parametrize("content", [safetensors(), state_dict()], ids=["safetensors", "state_dict"])
async def test_a_model_comes_back_as_either_kind_of_file_whichever_it_came_as(
    api: Api, content: bytes
) -> None:
    ana = await api.join()
    model = (await ana.upload(content, input_shape=["None", "1", "28"])).json()["model_id"]
    archive = await ana.call("GET", f"/models/{model}/")
    assert archive.headers["content-disposition"] == f'attachment; filename="model-{model}.pt"'
    assert int(archive.headers["content-length"]) == len(archive.content)
    assert _same(torch.load(io.BytesIO(archive.content), weights_only=True))
    weights = await ana.call("GET", f"/models/{model}/?format=safetensors")
    assert weights.content == safetensors()  # what the library writes is canonical
    accepted = await ana.call("GET", f"/models/{model}/", headers={"Accept": "application/x-safetensors"})
    assert accepted.content == weights.content


async def test_metadata_counts_the_parameters(api: Api) -> None:
    ana = await api.join()
    model = await ana.model(input_shape=["None", "3"])
    told_ = (await ana.call("GET", f"/models/{model}/metadata/")).json()
    assert (told_["owner"], told_["input_shape"], told_["round"]) == (ana.id, [None, 3], 0)
    assert (told_["stats"]["parameters"], told_["stats"]["bytes"]) == (8, 32)
    assert {tensor["name"]: tensor["shape"] for tensor in told_["stats"]["tensors"]} == {
        "weight": [2, 3],
        "bias": [2],
    }
    listed = (await ana.call("GET", "/models/")).json()
    assert [one["id"] for one in listed] == [model]


async def test_metadata_in_a_file_and_another_order_of_tensors_do_not_change_the_model(api: Api) -> None:
    ana = await api.join()
    reordered = save({"weight": TENSORS["weight"], "bias": TENSORS["bias"]}, metadata={"by": "ana"})
    model = (await ana.upload(reordered)).json()["model_id"]
    versions = (await ana.call("GET", f"/models/{model}/versions/")).json()
    plain = (await ana.call("GET", f"/models/{await ana.model()}/versions/")).json()
    assert versions[0]["sha256"] == plain[0]["sha256"]


async def test_a_header_whose_length_begins_like_a_pickle_is_a_header(api: Api) -> None:
    files = (safetensors({"w" * length: torch.zeros(2)}) for length in range(1, 100))
    alike = next(file for file in files if file.startswith(b"\x80"))
    assert (await (await api.join()).upload(alike)).status_code == 201


def _module() -> bytes:
    file = io.BytesIO()
    torch.save(torch.nn.Linear(2, 2), file)
    return file.getvalue()


def _legacy() -> bytes:
    file = io.BytesIO()
    torch.save(TENSORS, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def _expanded() -> bytes:
    file = io.BytesIO()
    torch.save({"weight": torch.zeros(1).expand(10**6, 10**6)}, file)
    return file.getvalue()


def _zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("code/__torch__.py", "print('hello')")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (_module(), "unsupported_archive"),
        (_zip(), "unsupported_archive"),
        (_expanded(), "unsupported_archive"),
        (_legacy(), "not_a_model"),
        (b"\x80\x04\x95.", "not_a_model"),
        (b"", "malformed_weights"),
        (b"nonsense" * 100, "malformed_weights"),
        (safetensors()[:-1], "weights_truncated"),
        (safetensors() + b"\0", "weights_padded"),
        (save({}), "not_a_model"),
        (save({"weight": torch.tensor([1.0, float("nan")])}), "not_finite"),
    ],
    ids=[
        "module",
        "torchscript",
        "expanded",
        "legacy",
        "pickle",
        "empty",
        "noise",
        "short",
        "long",
        "no tensors",
        "a NaN",
    ],
)
async def test_what_is_no_weights_file_is_refused_with_the_reason(
    api: Api, content: bytes, code: str
) -> None:
    ana = await api.join()
    assert told(await ana.upload(content)) == (400, code)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "n" * 300}, "name"),
        ({"name": "nul\0"}, "name"),
        ({"surprise": "1"}, "surprise"),
        ({"type": "SWAG"}, "type"),
        ({"round": "-1"}, "round"),
        ({"input_shape": ["1", "x"]}, "input_shape"),
    ],
)
async def test_fields_that_are_unknown_or_wrong_are_named(
    api: Api, fields: dict[str, object], field: str
) -> None:
    ana = await api.join()
    answer = await ana.upload(safetensors(), **fields)
    assert told(answer) == (400, "bad_input")
    assert field in answer.json()


async def test_a_form_without_a_file_or_that_is_no_form_is_refused(api: Api) -> None:
    ana = await api.join()
    assert told(await ana.call("POST", "/models/", data={"name": "n", "description": ""})) == (
        400,
        "bad_input",
    )
    assert told(await ana.call("POST", "/models/", json={"name": "n"})) == (400, "bad_input")
    broken = {"Content-Type": "multipart/form-data; boundary=x"}
    assert told(await ana.call("POST", "/models/", content=b"no parts", headers=broken))[0] == 400


@pytest.mark.parametrize("announced", [True, False])
async def test_a_file_beyond_the_operators_limit_is_refused(api: Api, announced: bool) -> None:
    ana = await api.join()
    body = b'--x\r\nContent-Disposition: form-data; name="model_file"; filename="f"\r\n\r\n' + bytes(
        5 * 2**20
    )

    async def pieces() -> AsyncIterator[bytes]:
        yield body

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    content = body if announced else pieces()
    assert told(await ana.call("POST", "/models/", content=content, headers=headers)) == (
        413,
        "body_too_large",
    )


async def test_a_model_is_for_its_owner_and_for_those_who_train_it(api: Api) -> None:
    ana, site, mallory = await api.join(), await api.site(), await api.join()
    model = await ana.model()
    paths = [f"/models/{model}/{rest}" for rest in ("", "metadata/", "versions/", "metrics/")]
    for path in paths:
        assert told(await site.call("GET", path)) == (404, "not_found")
    await ana.training(model, (site,))
    for path in paths:
        assert (await site.call("GET", path)).status_code == 200
        assert told(await mallory.call("GET", path)) == (404, "not_found")
    assert [m["id"] for m in (await site.call("GET", "/models/")).json()] == [model]
    assert told(await site.call("DELETE", f"/models/{model}/")) == (403, "forbidden")
    assert told(await mallory.call("DELETE", f"/models/{model}/")) == (404, "not_found")


async def test_a_version_that_is_not_there_is_not_found(api: Api) -> None:
    ana = await api.join()
    model = await ana.model()
    assert (await ana.call("GET", f"/models/{model}/?version=0")).status_code == 200
    assert told(await ana.call("GET", f"/models/{model}/?version=1"))[0] == 404
    for wrong in ("version=-1", "version=99999999999", "version=x", "format=pickle"):
        assert told(await ana.call("GET", f"/models/{model}/?{wrong}")) == (400, "bad_input")


async def test_a_deleted_model_takes_its_file_along_unless_a_clone_refers_to_it(api: Api) -> None:
    ana = await api.join()
    model = await ana.model()
    key = await _key(api, model)
    training = await ana.training(model)
    copied = await ana.training(model)
    clone = (await ana.call("GET", f"/trainings/{copied}/")).json()["model"]
    assert clone != model
    assert await _key(api, clone) == key
    assert (await ana.call("DELETE", f"/models/{model}/")).status_code == 200
    assert told(await ana.call("GET", f"/trainings/{training}/"))[0] == 404
    assert (await ana.call("GET", f"/models/{clone}/")).status_code == 200
    assert (await ana.call("DELETE", f"/models/{clone}/")).status_code == 200
    assert key not in set(api.parts.files.keys("uploads/"))


async def test_a_model_in_a_running_training_is_not_deleted(api: Api) -> None:
    ana, site = await api.join(), await api.site()
    model = await ana.model()
    training = await ana.training(model, (site,))
    await ana.call("POST", f"/trainings/{training}/start/")
    assert told(await ana.call("DELETE", f"/models/{model}/")) == (409, "model_in_use")
    async with api.parts.database.begin() as tx:
        await tx.execute(update(trainings).where(trainings.c.id == training).values(state="completed"))
    assert (await ana.call("DELETE", f"/models/{model}/")).status_code == 200
    async with api.parts.database.connect() as tx:
        assert (await tx.execute(select(outbox).where(outbox.c.training_id == training))).all() == []


async def test_metrics_are_numbers_or_else_bytes_and_are_kept_in_order(api: Api) -> None:
    ana = await api.join()
    model = await ana.model()
    report = {"metric_names": ["loss", "note", "auroc"], "metric_values": ["0.5", "fine", "nan"]}
    for request in ({"data": report}, {"data": report, "files": {"ignored": b""}}):
        assert (await ana.call("POST", f"/models/{model}/metrics/", **request)).status_code == 201
    found = (await ana.call("GET", f"/models/{model}/metrics/")).json()
    assert [(m["key"], m["value_float"], m["value_binary"]) for m in found[:3]] == [
        ("loss", 0.5, None),
        ("note", None, "ZmluZQ=="),
        ("auroc", None, "bmFu"),
    ]
    assert len(found) == 6
    assert {(m["reporter"], m["step"]) for m in found} == {(ana.id, 0)}
    later = await ana.call("GET", f"/models/{model}/metrics/?after={found[3]['id']}&limit=1")
    assert later.json() == [found[4]]


async def test_metrics_of_strangers_and_unpaired_metrics_are_refused(api: Api) -> None:
    ana, mallory = await api.join(), await api.join()
    path = f"/models/{await ana.model()}/metrics/"
    pair = {"metric_names": ["loss"], "metric_values": ["1"]}
    assert told(await mallory.call("POST", path, data=pair)) == (404, "not_found")
    for wrong in ({"metric_names": ["a", "b"], "metric_values": ["1"]}, {"metric_names": ["n" * 65]}):
        assert told(await ana.call("POST", path, data=wrong)) == (400, "bad_input")
    assert told(await ana.call("POST", path, json=pair)) == (400, "bad_input")


async def _key(api: Api, model: str) -> str:
    async with api.parts.database.connect() as tx:
        found = await tx.execute(select(model_versions.c.key).where(model_versions.c.model_id == model))
        return str(found.scalar_one())


def _same(tensors: dict[str, torch.Tensor]) -> bool:
    return tensors.keys() == TENSORS.keys() and all(torch.equal(tensors[n], TENSORS[n]) for n in TENSORS)
