import io
import pickle
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.weights.archive import state_dict_from_archive, to_safetensors
from infra.weights.archive_writer import write_archive
from infra.weights.layout import Dtype, Layout, Tensor, canonical
from infra.weights.refusals import UnsupportedArchive
from schemas.refusal import Refusal
from tests.unit.weights.strategies import file_of, layouts
from tests.unit.weights.test_layout import TORCH

USING_TMP_PATH = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def saved(value: object, protocol: int = 2) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, pickle_protocol=protocol)
    return buffer.getvalue()


def members_of(archive: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(archive)) as source:
        return {name: source.read(name) for name in source.namelist()}


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as target:
        for name, content in members.items():
            target.writestr(name, content)
    return buffer.getvalue()


def with_pickle(text: bytes) -> bytes:
    return zipped(members_of(saved({"w": torch.zeros(3)})) | {"archive/data.pkl": text})


def every_dtype() -> dict[str, torch.Tensor]:
    return {dtype.value: torch.tensor([[1, 0, 1]]).to(kind) for dtype, kind in TORCH.items()}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_state_dict_becomes_the_file_that_safetensors_would_have_written(
    tmp_path: Path, protocol: int
) -> None:
    state = {
        **every_dtype(),
        "transposed": torch.arange(6.0).reshape(2, 3).t(),
        "part": torch.arange(10.0)[3:9:2],
        "parameter": torch.nn.Parameter(torch.randn(3)),
        "counter": torch.tensor(5),
        "empty": torch.zeros(0, 3),
    }
    (tmp_path / "model.pt").write_bytes(saved(state, protocol))
    to_safetensors(tmp_path / "model.pt", tmp_path / "model.safetensors")
    contiguous = {name: tensor.detach().contiguous() for name, tensor in state.items()}
    assert (tmp_path / "model.safetensors").read_bytes() == safetensors.torch.save(contiguous)


def test_a_real_model_with_buffers_and_tied_weights_is_read(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 3))
    model[2].weight = model[0].weight
    torch.save(model.state_dict(), tmp_path / "model.pt")
    arrays = state_dict_from_archive(tmp_path / "model.pt")
    assert arrays.keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(arrays[name], tensor.numpy(), strict=True)


@USING_TMP_PATH
@given(layouts(), st.integers(0, 2**32))
def test_torch_reads_the_same_bits_from_a_written_archive(tmp_path: Path, layout: Layout, seed: int) -> None:
    weights, archive, back = (
        tmp_path / name for name in ("model.safetensors", "model.pt", "back.safetensors")
    )
    weights.write_bytes(file_of(layout, seed))
    write_archive(weights, layout, archive)
    state = torch.load(archive, weights_only=True)
    assert safetensors.torch.save(state) == weights.read_bytes()
    assert to_safetensors(archive, back) == layout
    assert back.read_bytes() == weights.read_bytes()


def test_the_same_model_gives_the_same_archive(tmp_path: Path) -> None:
    layout = canonical([Tensor("w", Dtype.F32, (4,))])
    (tmp_path / "w").write_bytes(file_of(layout, seed=1))
    for name in ("one", "two"):
        write_archive(tmp_path / "w", layout, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


class Trap:
    """Unpickled by anything that runs pickles, it leaves a mark."""

    sprung = False

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return setattr, (Trap, "sprung", True)


def an_expanded_tensor() -> bytes:
    return saved({"w": torch.zeros(1).expand(10**12)})


def a_torchscript_program() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        for name in ("m/data.pkl", "m/constants.pkl", "m/code/__torch__.py"):
            target.writestr(name, b"\x80\x02}.")
    return buffer.getvalue()


def beyond_its_storage() -> bytes:
    members = members_of(saved({"w": torch.zeros(30)}))
    return zipped(members | {"archive/data/0": bytes(119)})


def without_numbers() -> bytes:
    members = members_of(saved({"w": torch.zeros(30)}))
    del members["archive/data/0"]
    return zipped(members)


def a_forged_size() -> bytes:
    archive = zipped({"archive/data.pkl": b"\x80\x02}.", "archive/data/0": b"abc"})
    directory = archive.rindex(b"PK\x01\x02")
    huge = (2**31).to_bytes(4, "little")
    return archive[: directory + 20] + huge + huge + archive[directory + 28 :]


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "a module": (lambda: saved(torch.nn.Linear(1, 1)), "torch.nn.modules.linear.Linear"),
    "code in a pickle": (lambda: saved({"w": Trap()}), "builtins.setattr|__builtin__.setattr"),
    "a bare pickle": (lambda: pickle.dumps({"w": Trap()}), "not a whole zip"),
    "torch's old format": (lambda: b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "not a whole zip"),
    "torchscript": (a_torchscript_program, "TorchScript"),
    "a checkpoint": (lambda: saved({"model": {"w": torch.zeros(1)}, "epoch": 3}), "'model' is a dict"),
    "a number": (lambda: saved({"w": torch.zeros(1), "epoch": 3}), "'epoch' is a int"),
    "a tensor": (lambda: saved(torch.zeros(1)), "does not hold a dict"),
    "a list": (lambda: saved([torch.zeros(1)]), "operation EMPTY_LIST"),
    "complex numbers": (lambda: saved({"w": torch.zeros(1, dtype=torch.complex64)}), "ComplexFloatStorage"),
    "sparse": (lambda: saved({"w": torch.eye(2).to_sparse()}), "_rebuild_sparse_tensor"),
    "deflated": (
        lambda: zipped(members_of(saved({"w": torch.zeros(9)})), zipfile.ZIP_DEFLATED),
        "compressed",
    ),
    "10**12 elements": (an_expanded_tensor, "4000000000000 bytes, at most"),
    "one number a thousand times": (lambda: saved({"w": torch.zeros(1).expand(1000)}), "repeats numbers"),
    "beyond its storage": (beyond_its_storage, "repeats numbers|reaches beyond"),
    "without numbers": (without_numbers, "missing"),
    "a forged size": (a_forged_size, "overlap|not where"),
    "a foreign member": (lambda: zipped({"a/data.pkl": b"", "b/data": b""}), "outside its folder"),
    "two pickles": (lambda: zipped({"a/data.pkl": b"", "b/data.pkl": b""}), "the one data.pkl"),
    "any zip": (lambda: zipped({"readme": b""}), "the one data.pkl"),
    "big-endian": (lambda: zipped(members_of(saved({})) | {"archive/byteorder": b"big"}), "little-endian"),
    "an empty file": (lambda: b"", "not a whole zip"),
    "half a file": (lambda: saved({"w": torch.zeros(100)})[:300], "not a whole zip"),
    "an empty pickle": (lambda: with_pickle(b""), "damaged"),
    "a memo bomb": (lambda: with_pickle(b"\x80\x02}r\xff\xff\xff\xffh\x00."), "damaged"),
    "nothing to take": (lambda: with_pickle(b"\x80\x02R."), "damaged"),
    "a lost mark": (lambda: with_pickle(b"\x80\x02((\x85\x85tt."), "damaged"),
    "a bad escape": (lambda: with_pickle(b"\x80\x02ct\\orch\nTensor\n."), "damaged|Python object"),
    "a nested key": (lambda: with_pickle(b"\x80\x02})" + b"q\x00h\x00\x86" * 60 + b"Ns."), "not a string"),
    "filling a number": (lambda: with_pickle(b"\x80\x02K\x01X\x01\x00\x00\x00aK\x01s."), "not a dict"),
}


@pytest.mark.parametrize(("archive", "reason"), HOSTILE.values(), ids=HOSTILE.keys())
def test_anything_but_a_plain_state_dict_is_refused_unrun_and_says_what_to_send(
    tmp_path: Path, archive: Callable[[], bytes], reason: str
) -> None:
    (tmp_path / "archive").write_bytes(archive())
    with pytest.raises(UnsupportedArchive, match=reason) as refusal:
        state_dict_from_archive(tmp_path / "archive")
    assert "state_dict()" in str(refusal.value)
    assert len(str(refusal.value)) < 400
    assert not Trap.sprung


def test_more_numbers_than_admitted_are_refused(tmp_path: Path) -> None:
    tied = torch.zeros(1000)
    (tmp_path / "archive").write_bytes(saved(OrderedDict((str(i), tied) for i in range(10))))
    with pytest.raises(UnsupportedArchive, match="40000 bytes, at most 39999"):
        state_dict_from_archive(tmp_path / "archive", max_bytes=39_999)


@USING_TMP_PATH
@given(st.data())
def test_a_damaged_archive_is_refused_or_read_but_never_a_crash(tmp_path: Path, data: st.DataObject) -> None:
    archive = bytearray(saved({"w": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(1)}))
    for _ in range(data.draw(st.integers(1, 4))):
        archive[data.draw(st.integers(0, len(archive) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "archive").write_bytes(archive)
    try:
        arrays = state_dict_from_archive(tmp_path / "archive")
    except Refusal:
        return
    assert sum(array.nbytes for array in arrays.values()) < len(archive)


def test_reading_and_writing_archives_does_not_import_torch() -> None:
    import subprocess  # noqa: PLC0415

    program = (
        "import sys, infra.weights.archive, infra.weights.archive_writer; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
