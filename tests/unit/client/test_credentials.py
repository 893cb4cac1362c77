import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from agents.client.app import REFUSED_TO_START, UserCodeMissing, create_runner, run
from agents.client.credentials import (
    CredentialsUnreadable,
    DataFolderInUse,
    DataFolderUnusable,
    read_credentials,
    sole_user_of,
)
from agents.client.settings import Settings
from tests.unit.client.builders import SITE

GOOD = {
    "client_id": str(SITE),
    "amqp_url": f"amqp://{SITE}:hush@host:5672/warren",
    "queue": f"client.{SITE}.x",
}


def test_credentials_are_read_as_enrolment_gave_them(tmp_path: Path) -> None:
    (tmp_path / "me.json").write_text(json.dumps(GOOD))
    found = read_credentials(tmp_path / "me.json")
    assert (found.client, found.queue, found.broker.vhost) == (SITE, GOOD["queue"], "warren")
    assert "hush" not in repr(found)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "{}",
        json.dumps(GOOD | {"client_id": "me"}),
        json.dumps(GOOD | {"amqp_url": "http://hush@host"}),
        json.dumps(GOOD | {"amqp_url": "amqp://somebody:hush@host/warren"}),
    ],
)
def test_credentials_that_cannot_be_used_are_refused_without_telling_the_password(
    tmp_path: Path, text: str | None
) -> None:
    if text is not None:
        (tmp_path / "me.json").write_text(text)
    with pytest.raises(CredentialsUnreadable) as caught:
        read_credentials(tmp_path / "me.json")
    assert "hush" not in str(caught.value)


def test_an_agent_without_credentials_ends_with_code_2(tmp_path: Path) -> None:
    settings = Settings(credentials=tmp_path / "none", data=tmp_path / "data", trainer="a:B")
    assert run(settings) == REFUSED_TO_START


def test_two_agents_do_not_share_a_data_folder(tmp_path: Path) -> None:
    with sole_user_of(tmp_path), pytest.raises(DataFolderInUse), sole_user_of(tmp_path):
        pass
    with sole_user_of(tmp_path):
        pass


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"script": "a.py", "trainer": "a:B"},
        {"trainer": "no class"},
        {"trainer": "a:B", "preload": ("torch",)},
        {"script": "a.py", "speed": 1},
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path: Path, given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({"credentials": tmp_path / "me.json", **given})


def test_a_data_folder_that_cannot_be_made_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(DataFolderUnusable, match="name another folder"),
        sole_user_of(tmp_path / "file" / "data"),
    ):
        pass


@pytest.mark.parametrize("missing", [{"script": "nope.py"}, {"executor": "nope"}])
def test_an_agent_does_not_take_tasks_it_has_no_code_for(tmp_path: Path, missing: dict[str, str]) -> None:
    (tmp_path / "train.py").touch()
    given = {"script": str(tmp_path / "train.py"), "executor": "python3", **missing}
    settings = Settings(
        credentials=tmp_path, script=Path(given["script"]), executor=given["executor"], workdir=tmp_path
    )
    with pytest.raises(UserCodeMissing, match="nope"):
        create_runner(settings)
