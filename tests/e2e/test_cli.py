"""The `warren` command on a stack that it keeps running: the story of one training."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.e2e.warren import Warren, until

pytestmark = [pytest.mark.e2e, pytest.mark.integration, pytest.mark.timeout(200)]

NOBODY = "6f0a5c5e-8b1f-5a52-9a43-2d3f4b0c7e11"
SITE = Path(__file__).with_name("quick_site.py")


@pytest.fixture(scope="module")
def warren(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warren]:
    command = Warren(tmp_path_factory.mktemp("cli"))
    try:
        command("up", "--aggregators", "1")
        yield command
    finally:
        assert "scheduler" in command.told("down")["stopped"]
    assert not command.processes()


@pytest.fixture(scope="module")
def site(warren: Warren) -> Iterator[str]:
    """The id of an enrolled client whose agent is at work."""
    client = warren.told("clients", "add", "ana")
    options = ("--credentials", client["credentials"], "--data", "ana", "--script", str(SITE))
    agent = warren.begun("agent", *options, output=warren.folder / "agent.log")
    yield client["id"]
    agent.terminate()
    assert agent.wait(30) == 0


@pytest.fixture(scope="module")
def completed(warren: Warren, site: str) -> str:
    """The id of a training that was created, started and watched."""
    training = planned(warren, "ana")
    warren("trainings", "start", training)
    said = warren("trainings", "watch", training)
    assert "round 2/2: loss 0.5000" in said
    return training


def test_up_says_how_to_reach_everything_and_may_be_repeated(warren: Warren) -> None:
    said = warren("up", "--aggregators", "1")
    for word in ("REST API", "/docs", "amqp://", "postgresql://", "S3", "logs", "next:"):
        assert word in said


def test_up_tells_a_script_how_to_reach_everything(warren: Warren) -> None:
    told = warren.told("up", "--aggregators", "1")
    assert httpx.get(f"{told['api_url']}/health/ready").is_success
    assert httpx.get(told["management_url"]).is_success
    assert told["amqp_url"].endswith("/warren")
    assert Path(told["logs"]).is_dir()


def test_up_starts_again_what_has_died(warren: Warren) -> None:
    before = warren.told("status")["services"]["scheduler"]
    os.kill(before, signal.SIGKILL)
    until(lambda: warren.told("status")["services"]["scheduler"] is None)
    warren("up", "--aggregators", "1")
    assert warren.told("status")["services"]["scheduler"] not in {before, None}


def test_status_knows_servers_services_queues_clients_and_trainings(warren: Warren, completed: str) -> None:
    status = warren.told("status")
    assert status["servers"] == {"rabbitmq": True, "postgres": True, "s3": True}
    assert all(status["services"].values())
    assert status["queues"]["dead-letters"] == 0
    assert [client["username"] for client in status["clients"]][:1] == ["ana"]
    assert completed in {training["id"] for training in status["trainings"]}
    assert "scheduler" in warren("status")


def test_credentials_are_the_owners_only_and_not_written_over(warren: Warren, site: str) -> None:
    file = warren.folder / ".warren" / "clients" / "ana.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert json.loads(file.read_text()).keys() == {"client_id", "amqp_url", "queue"}
    assert "exists already" in warren.tried("clients", "add", "ana").stderr


def test_a_client_with_a_running_agent_is_present(warren: Warren, site: str) -> None:
    until(lambda: "present" in warren("clients", "list"))


def test_users_get_a_token_once(warren: Warren) -> None:
    assert len(warren.told("users", "add", "eva")["token"]) == 40
    assert "eva" in {user["username"] for user in warren.told("users", "list")}
    assert "eva" in warren("users", "list")
    revoked = warren.told("users", "revoke", "eva")
    assert (revoked["username"], revoked["revoked"]) == ("eva", True)
    assert "eva" not in {user["username"] for user in warren.told("users", "list")}


def test_a_watched_training_is_told_to_a_script_event_by_event(warren: Warren, completed: str) -> None:
    watched = warren("trainings", "watch", completed, "--json")
    published = warren("events", "export", "--training", completed)
    assert watched == published


def test_a_training_is_shown_with_its_rounds(warren: Warren, completed: str) -> None:
    shown = warren.told("trainings", "show", completed)
    assert (shown["status"], [done["round"] for done in shown["rounds"]]) == ("completed", [0, 1])
    assert "completed" in warren("trainings", "show", completed)
    assert completed in warren("trainings", "list")


def test_every_version_of_a_training_is_computed_again(warren: Warren, completed: str) -> None:
    verdicts = warren.told("trainings", "verify", completed)
    assert [(one["version"], one["round"], one["faults"]) for one in verdicts] == [
        (0, None, []),
        (1, 0, []),
        (2, 1, []),
    ]
    assert warren("trainings", "verify", completed).count(" ok\n") == 3
    assert "no started training" in warren.tried("trainings", "verify", NOBODY).stderr


def test_a_training_is_planned_with_any_strategy(warren: Warren, site: str) -> None:
    chosen = ("--strategy", "FedAdam", "--options", '{"eta": 0.5}', "--plan", '{"norm_clip": 3}')
    shown = warren.told("trainings", "show", planned(warren, "ana", *chosen))
    assert (shown["plan"]["strategy"]["eta"], shown["plan"]["norm_clip"]) == (0.5, 3.0)
    assert (
        "there is no strategy 'FedSum' here"
        in warren.tried(
            "trainings", "create", "--model", "model.safetensors", "--client", "ana", "--strategy", "FedSum"
        ).stderr
    )
    assert "FedAdam" in warren("strategies")


def test_what_cannot_be_is_refused_in_one_line(warren: Warren, completed: str) -> None:
    refused = warren.tried("trainings", "abort", completed)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == f"training {completed} is over (completed); nothing about it can change (409)\n"


def test_an_aborted_training_ends_the_watch_with_its_reason(warren: Warren, site: str) -> None:
    training = planned(warren, "ana", "--min-clients", "1")
    warren("trainings", "abort", training, "--reason", "a change of mind")
    watched = warren.tried("trainings", "watch", training)
    assert watched.returncode == 1
    assert "aborted: a change of mind" in watched.stderr
    told = warren.tried("trainings", "watch", training, "--json")
    assert (told.returncode, told.stdout, told.stderr) == (1, "", watched.stderr)  # it has no events


def test_the_stream_is_exported_as_the_table_is(warren: Warren, completed: str) -> None:
    table = warren("events", "export", "--training", completed)
    assert warren("events", "export", "--training", completed, "--from", "stream") == table
    assert [json.loads(line)["sequence"] for line in table.splitlines()] == list(
        range(1, len(table.splitlines()) + 1)
    )


def test_the_tail_shows_what_happened(warren: Warren, completed: str) -> None:
    said = warren("events", "tail", "--from", "first", "--no-follow", "--training", completed)
    assert "TrainingStarted" in said.splitlines()[0]
    assert "TrainingCompleted" in said.splitlines()[-1]


def test_events_and_snapshots_are_verified(warren: Warren, completed: str) -> None:
    found = warren.told("events", "verify")
    assert found["faults"] == []
    assert found["events"] > 10


def test_the_topology_is_checked_and_declared_again(warren: Warren) -> None:
    assert warren.told("topology", "check") == []
    assert warren.told("topology", "declare") == {"declared": True}


def test_an_integrator_comes_and_goes(warren: Warren) -> None:
    assert warren.told("integrators", "add", "hospital")["queue"] == "integrator.hospital"
    assert warren.told("integrators", "remove", "hospital") == {"name": "hospital", "removed": True}
    assert "integrator.hospital" not in warren.told("status")["queues"]


def test_an_export_to_a_file_says_how_much_it_is(warren: Warren, completed: str) -> None:
    told = warren.told("events", "export", "--training", completed, "--out", "events.jsonl")
    assert told["file"] == "events.jsonl"
    assert len((warren.folder / told["file"]).read_text().splitlines()) == told["events"]


def test_a_revoked_client_is_out(warren: Warren) -> None:
    warren("clients", "add", "ben")
    assert warren.told("clients", "revoke", "ben")["revoked"]
    (ben,) = (client for client in warren.told("clients", "list") if client["username"] == "ben")
    assert ben["revoked_at"]
    assert "there is no client 'nobody'" in warren.tried("clients", "revoke", "nobody").stderr


def planned(warren: Warren, client: str, *more: str) -> str:
    model = warren.folder / "model.safetensors"
    save_file({"w": np.arange(6, dtype=np.float32)}, model)
    options = ("--model", str(model), "--client", client, "--rounds", "2")
    return str(warren.told("trainings", "create", *options, *more)["id"])
