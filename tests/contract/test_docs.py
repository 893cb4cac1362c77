"""The generated pages say what the code does."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from docs.generate import ROOT, drifted, main, write
from infra.broker.topology import definitions
from schemas.catalogue import Described, built_in
from schemas.routing import TABLE, Exchange, Route
from tests.contract.examples import DIRECTIONS, kinds, path_of

ASYNCAPI: dict[str, Any] = yaml.safe_load((ROOT / "docs/asyncapi.yaml").read_text())
SCHEMAS = {path.name: json.loads(path.read_text()) for path in (ROOT / "docs/schemas").glob("*.json")}
EXCHANGE_OF = {
    "to-scheduler": Exchange.COMMANDS,
    "to-aggregator": Exchange.COMMANDS,
    "to-clients": Exchange.CLIENTS,
    "from-clients": Exchange.UPLINK,
    "from-aggregator": Exchange.UPLINK,
    "events": Exchange.EVENTS,
}


def looked_up(reference: str) -> Any:
    """What a reference within the document points at."""
    found: Any = ASYNCAPI
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


def payload_of(exchange: Exchange, name: str) -> Draft202012Validator:
    files = {"asyncapi.yaml": ASYNCAPI, **{f"schemas/{file}": schema for file, schema in SCHEMAS.items()}}
    registry: Registry[Any] = Registry().with_resources(
        (uri, Resource.from_contents(contents, default_specification=DRAFT202012))
        for uri, contents in files.items()
    )
    reference = f"asyncapi.yaml#/components/messages/{exchange}.{name}/payload"
    return Draft202012Validator({"$ref": reference}, registry=registry)


def test_no_generated_page_has_drifted() -> None:
    assert drifted() == (), "run python -m docs.generate"


def test_a_drifted_a_missing_and_a_left_over_page_are_found_and_mended(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text((ROOT / "README.md").read_text())
    written = write(tmp_path)
    (tmp_path / "docs/messages.md").write_text("old")
    (tmp_path / "docs/schemas/Heartbeat.json").unlink()
    (tmp_path / "docs/schemas/Forgotten.json").write_text("{}")
    found = {path.name for path in drifted(tmp_path)}
    assert found == {"messages.md", "Heartbeat.json", "Forgotten.json"}
    assert {path.name for path in write(tmp_path)} == found
    assert drifted(tmp_path) == ()
    assert len(written) == len(SCHEMAS) + 2


def test_an_unknown_argument_is_answered_with_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--chekc"]) == 2
    assert capsys.readouterr().err == "usage: python -m docs.generate [--check]\n"


def test_a_readme_without_the_place_for_the_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Warren\n")
    with pytest.raises(ValueError, match=r"README.md must hold <!-- messages:begin -->"):
        write(tmp_path)


@pytest.mark.parametrize("route", TABLE, ids=lambda route: f"{route.exchange}.{route.name}")
def test_the_asyncapi_document_has_every_route_with_who_sends_and_who_receives(route: Route) -> None:
    reference = f"#/channels/{route.exchange}/messages/{route.name}"
    message = looked_up(looked_up(reference)["$ref"])
    assert (message["name"], message["x-routing-key"]) == (route.name, route.key)
    told = {
        (operation["action"], operation["tags"][0]["name"])
        for operation in ASYNCAPI["operations"].values()
        if {"$ref": reference} in operation["messages"]
    }
    assert told == {
        *(("send", role) for role in route.producers),
        *(("receive", role) for role in route.consumers),
    }


def test_every_operation_refers_to_messages_of_its_own_channel() -> None:
    for operation in ASYNCAPI["operations"].values():
        channel = operation["channel"]["$ref"]
        assert looked_up(channel)["address"]
        assert operation["messages"]
        assert all(message["$ref"].startswith(f"{channel}/messages/") for message in operation["messages"])


def test_every_parameter_of_an_address_is_described() -> None:
    for channel in ASYNCAPI["channels"].values():
        described = set(channel["parameters"])
        assert described == {part.split("}")[0] for part in channel["address"].split("{")[1:]}


def test_the_exchanges_are_of_the_kind_that_the_topology_makes_them() -> None:
    made = {each["name"]: each["type"] for each in definitions({})["exchanges"]}
    for channel in ASYNCAPI["channels"].values():
        exchange = channel["bindings"]["amqp"]["exchange"]
        assert made[exchange["name"]] == exchange["type"]


@pytest.mark.parametrize("file", sorted(SCHEMAS))
def test_every_schema_is_a_json_schema(file: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[file])


@pytest.mark.parametrize(("direction", "name"), [kind for kind in kinds() if kind[0] in EXCHANGE_OF])
def test_golden_messages_are_valid_under_the_document_and_changed_ones_are_not(
    direction: str, name: str
) -> None:
    validator = payload_of(EXCHANGE_OF[direction], name)
    golden = json.loads(path_of(direction, name).read_text())
    validator.validate(golden)
    assert not validator.is_valid({**golden, "type": "Other"})
    assert not validator.is_valid({**golden, "surprise": 1})
    assert not validator.is_valid({**golden, "data": {**golden["data"], "surprise": 1}})


def test_every_direction_that_goes_through_the_broker_is_checked() -> None:
    assert set(DIRECTIONS) - set(EXCHANGE_OF) == {"timers"}


@pytest.mark.parametrize("one", built_in(), ids=lambda one: one.name)
def test_the_page_on_strategies_has_each_with_all_of_its_options(one: Described) -> None:
    page = (ROOT / "docs/strategies.md").read_text()
    (row,) = (line for line in page.splitlines() if line.startswith(f"| {one.name} |"))
    properties: Any = one.options.get("properties", {})
    inherited: Any = built_in()[0].options["properties"] if one.name == "FedProx" else {}
    assert [name for name in properties if name not in inherited and f"`{name}`" not in row] == []
