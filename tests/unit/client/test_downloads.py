from pathlib import Path

from agents.client.downloads import Downloads
from schemas.weights import ModelRef
from tests.unit.client.builders import MODEL_BYTES, a_ref


async def test_a_model_left_by_an_earlier_process_is_used_if_it_is_unharmed(tmp_path: Path) -> None:
    downloads = Downloads(tmp_path)
    downloads.path(a_ref()).write_bytes(MODEL_BYTES)
    assert await Downloads(tmp_path).has(a_ref())


async def test_a_harmed_model_is_removed(tmp_path: Path) -> None:
    downloads = Downloads(tmp_path)
    downloads.path(a_ref()).write_bytes(MODEL_BYTES[:-1])
    assert not await Downloads(tmp_path).has(a_ref())
    assert not downloads.path(a_ref()).exists()


def test_half_a_download_is_swept_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "x.part").touch()
    Downloads(tmp_path)
    assert not list(tmp_path.iterdir())


async def test_only_files_in_need_and_the_latest_used_are_kept(tmp_path: Path) -> None:
    downloads, refs = Downloads(tmp_path, keep_unused=1), [_another(n) for n in range(4)]
    for ref in refs:
        downloads.path(ref).touch()
        downloads.use(ref)
    downloads.prune({refs[0].sha256})
    assert [downloads.path(ref).exists() for ref in refs] == [True, False, False, True]


def _another(number: int) -> ModelRef:
    return a_ref().model_copy(update={"sha256": f"{number:064x}"})
