"""The generated definitions, without a broker."""

import re
from typing import Any
from uuid import UUID

import pytest

from infra.broker.permissions import client_permissions, hashed, integrator_permissions, service_grants
from infra.broker.topology import LADDER, PARTITIONS, client_queue, definitions, scheduler_queues
from schemas.ids import ClientId
from schemas.routing import FROM_AGGREGATOR, FROM_CLIENTS, REFUSED, REPORTS, TABLE, Exchange, Role

ANA = ClientId(UUID(int=1))
BEN = ClientId(UUID(int=2))
LOGINS = {role: hashed(role) for role in service_grants()}
DOCUMENT = definitions(LOGINS)
WITHOUT_DEAD_LETTERS = {  # and why
    "dead-letters": "it is where they end; a way on from there would lead back to it",
    "unrouted": "it is where messages end that no queue takes; nobody consumes it who could refuse one",
    "event-log": "a stream: reading takes nothing from it, so nothing is refused, and it forgets by age",
}
EVERY_QUEUE = [
    *(queue["name"] for queue in DOCUMENT["queues"]),
    client_queue(ANA, "x"),
    "integrator.hospital",
]


def policy_of(name: str, applies_to: str = "queues") -> dict[str, Any]:
    matching = [
        policy
        for policy in DOCUMENT["policies"]
        if policy["apply-to"] == applies_to and re.search(policy["pattern"], name)
    ]
    assert len(matching) <= 1, "policies do not merge: one of them would be ignored"
    return dict(matching[0]["definition"]) if matching else {}


def test_every_queue_has_a_dead_letter_exchange_but_the_three_where_messages_end() -> None:
    without = {queue for queue in EVERY_QUEUE if "dead-letter-exchange" not in policy_of(queue)}
    assert without == WITHOUT_DEAD_LETTERS.keys()


def test_every_dead_letter_exchange_is_there() -> None:
    exchanges = {exchange["name"] for exchange in DOCUMENT["exchanges"]} | {""}
    assert {policy_of(queue).get("dead-letter-exchange", "") for queue in EVERY_QUEUE} <= exchanges


def test_the_last_queues_are_what_they_are_said_to_be() -> None:
    kinds = {queue["name"]: queue["arguments"]["x-queue-type"] for queue in DOCUMENT["queues"]}
    assert {name: kinds[name] for name in WITHOUT_DEAD_LETTERS} == {
        "dead-letters": "quorum",
        "unrouted": "quorum",
        "event-log": "stream",
    }
    readable = "|".join(grant.read for grant in service_grants().values())
    assert not [name for name in WITHOUT_DEAD_LETTERS if re.search(readable, name)]


@pytest.mark.parametrize("queue", EVERY_QUEUE)
def test_every_queue_has_an_explicit_limit(queue: str) -> None:
    policy = policy_of(queue)
    assert {"max-length", "max-length-bytes"} & policy.keys()
    assert "overflow" in policy or queue == "event-log"


@pytest.mark.parametrize("queue", [*scheduler_queues(), "aggregator"])
def test_service_queues_outlive_crashes_and_lose_nothing(queue: str) -> None:
    policy = policy_of(queue)
    assert policy["delivery-limit"] >= 20
    assert policy["overflow"] == "reject-publish"
    assert policy["dead-letter-strategy"] == "at-least-once"


def test_only_type_single_active_consumer_and_hash_header_are_arguments() -> None:
    used = {name for entry in (*DOCUMENT["queues"], *DOCUMENT["exchanges"]) for name in entry["arguments"]}
    assert used == {"x-queue-type", "x-single-active-consumer", "hash-header"}


def test_dead_letters_of_the_ladder_go_back_by_the_name_of_their_queue() -> None:
    for level in LADDER:
        policy = policy_of(level.exchange)
        assert policy["message-ttl"] == level.wait_ms
        assert policy["dead-letter-exchange"] == ""
        assert "dead-letter-routing-key" not in policy


def test_everything_that_is_bound_is_declared_and_every_queue_is_bound() -> None:
    queues = {queue["name"] for queue in DOCUMENT["queues"]}
    exchanges = {exchange["name"] for exchange in DOCUMENT["exchanges"]}
    for binding in DOCUMENT["bindings"]:
        assert binding["source"] in exchanges
        assert binding["destination"] in (queues if binding["destination_type"] == "queue" else exchanges)
    assert queues == {b["destination"] for b in DOCUMENT["bindings"] if b["destination_type"] == "queue"}
    assert {route.exchange for route in TABLE} <= exchanges


def test_every_report_has_a_binding_and_what_a_site_refuses_goes_past_the_scheduler() -> None:
    reached = {b["routing_key"]: b["destination"] for b in DOCUMENT["bindings"] if b["source"] == "uplink"}
    assert reached == {
        **{f"*.{report}": "scheduler" for report in REPORTS},
        "*.Heartbeat": "presence",
        "*.Refused": "dead-letters",
    }


def test_no_report_looks_like_what_a_site_refused() -> None:
    assert REFUSED not in {route.name for route in TABLE}
    assert re.search(client_permissions(ANA, "q").topics_written["uplink"], f"{ANA}.{REFUSED}")


def test_all_partitions_weigh_the_same() -> None:
    weights = [b["routing_key"] for b in DOCUMENT["bindings"] if b["source"] == "scheduler"]
    assert weights == ["10"] * PARTITIONS
    assert len(definitions({}, partitions=8)["queues"]) == len(DOCUMENT["queues"]) + 4


def test_everything_lies_in_the_virtual_host_asked_for() -> None:
    document = definitions(LOGINS, vhost="other")
    sections = ("exchanges", "queues", "bindings", "policies", "permissions", "topic_permissions")
    assert {entry["vhost"] for section in sections for entry in document[section]} == {"other"}


def test_no_login_configures_anything() -> None:
    grants = [*service_grants().values(), client_permissions(ANA, "q"), integrator_permissions("q")]
    assert {grant.permissions["configure"] for grant in grants} == {"^$"}


@pytest.mark.parametrize("role", [Role.SCHEDULER, Role.AGGREGATOR])
def test_a_service_may_publish_what_it_produces_and_only_that(role: Role) -> None:
    grant = service_grants()[role]
    allowed = {exchange for exchange in Exchange if re.search(grant.write, exchange)}
    produced = {route.exchange for route in TABLE if role in route.producers}
    assert allowed == produced
    for level in LADDER:
        assert re.search(grant.write, level.exchange)
    assert re.search(grant.write, "dead-letters")
    assert not re.search(grant.write, "amq.topic")


def test_a_service_may_read_its_own_queues_only() -> None:
    names = [queue["name"] for queue in DOCUMENT["queues"]]
    readable = {
        role: [name for name in names if re.search(grant.read, name)]
        for role, grant in service_grants().items()
    }
    assert readable == {
        Role.API: [],
        Role.SCHEDULER: [*scheduler_queues(), "presence"],
        Role.AGGREGATOR: ["aggregator"],
    }


def test_a_client_writes_under_its_own_id_and_reads_its_own_queue() -> None:
    queue = client_queue(ANA, "abc")
    grant = client_permissions(ANA, queue)
    assert grant.permissions == {"configure": "^$", "write": "^uplink$", "read": rf"^client\.{ANA}\.abc$"}
    (topic,) = grant.topics
    assert topic == {"exchange": "uplink", "write": rf"^{ANA}\.[A-Za-z]+$", "read": "^$"}
    for report in FROM_CLIENTS:
        assert re.search(topic["write"], f"{ANA}.{report}")
        assert not re.search(topic["write"], f"{BEN}.{report}")
    assert not re.search(grant.read, client_queue(ANA, "abcd"))


def test_an_aggregator_reports_under_its_own_name_only() -> None:
    keys = service_grants()[Role.AGGREGATOR].topics_written["uplink"]
    assert all(re.search(keys, f"aggregator.{report}") for report in FROM_AGGREGATOR)
    assert not re.search(keys, f"{ANA}.ModelUploaded")


def test_passwords_are_kept_salted() -> None:
    assert hashed("secret") != hashed("secret")
    assert len(hashed("secret")) == 48
