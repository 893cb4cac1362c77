"""Comparing what is with what should be."""

from copy import deepcopy

from infra.broker.differences import differences
from infra.broker.permissions import hashed
from infra.broker.topology import definitions
from schemas.routing import Role


def wanted() -> dict[str, list[dict[str, object]]]:
    return definitions({Role.SCHEDULER: hashed("secret")}, vhost="v")


def test_equal_definitions_do_not_differ_whatever_the_salt() -> None:
    assert differences(wanted(), wanted(), "v") == ()


def test_what_others_have_made_beside_is_not_judged() -> None:
    actual = deepcopy(wanted())
    actual["queues"].append({"name": "client.1.x", "vhost": "v", "durable": True, "arguments": {}})
    actual["queues"].append({"name": "aggregator", "vhost": "another", "durable": False, "arguments": {}})
    assert differences(wanted(), actual, "v") == ()


def test_missing_and_changed_entries_are_named() -> None:
    actual = deepcopy(wanted())
    actual["exchanges"] = [entry for entry in actual["exchanges"] if entry["name"] != "clients"]
    actual["permissions"][0]["read"] = ".*"
    missing, changed = differences(wanted(), actual, "v")
    assert missing == "exchange clients is missing"
    assert changed.startswith("permission scheduler: read is .*, not ^(scheduler")


def test_an_empty_broker_misses_everything() -> None:
    expected = sum(map(len, wanted().values()))
    assert len(differences(wanted(), {}, "v")) == expected
