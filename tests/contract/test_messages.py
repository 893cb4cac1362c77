"""The language on the wire: changing any of it is a visible decision."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.envelope import MAX_REPORT_BYTES, Malformed, decode, enclose, encode
from schemas.events import Event
from schemas.ids import MessageId
from schemas.message import Message
from schemas.reports import ClientReport
from schemas.routing import TABLE, members
from tests.builders import NOON
from tests.contract.examples import DIRECTIONS, EXAMPLES, GOLDEN, enclosed, kinds, missing, path_of
from tests.strategies import instances


def a_report(**changes: Any) -> dict[str, Any]:
    """A golden report as parsed JSON, with some of its data changed."""
    report: dict[str, Any] = json.loads(path_of("from-clients", "ModelUploaded").read_text())
    return {**report, "data": {**report["data"], **changes}}


def refusal_of(body: str | bytes | dict[str, Any]) -> str:
    text = json.dumps(body) if isinstance(body, dict) else body
    with pytest.raises(Malformed) as refused:
        decode(text.encode() if isinstance(text, str) else text, ClientReport, limit=MAX_REPORT_BYTES)
    return str(refused.value)


def test_every_message_of_the_routing_table_has_a_golden_file() -> None:
    assert not missing(), "run python -m tests.contract.examples, and look at what it writes"
    assert {route.name for route in TABLE} <= {name for _, name in kinds()} == set(EXAMPLES)
    assert {path_of(*kind) for kind in kinds()} == set(GOLDEN.rglob("*.json"))


@pytest.mark.parametrize(("direction", "name"), tuple(kinds()))
def test_a_golden_file_is_read_as_its_example_and_written_as_the_same_json(direction: str, name: str) -> None:
    golden = path_of(direction, name).read_bytes()
    envelope = decode(golden, DIRECTIONS[direction])
    assert envelope == enclosed(direction, name)
    assert json.loads(encode(envelope)) == json.loads(golden)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"surprise": 1}, "data.ModelUploaded.surprise: Extra inputs are not permitted"),
        ({"num_examples": 0}, "data.ModelUploaded.num_examples: Input should be greater than or equal to 1"),
        ({"num_examples": 10.0}, "data.ModelUploaded.num_examples: Input should be a valid integer"),
        ({"num_examples": "10"}, "data.ModelUploaded.num_examples: Input should be a valid integer"),
        ({"num_examples": True}, "data.ModelUploaded.num_examples: Input should be a valid integer"),
        ({"num_examples": 2**31}, "data.ModelUploaded.num_examples: Input should be less than or equal to"),
        ({"metrics": {"loss": float("nan")}}, "data.ModelUploaded.metrics.loss: Input should be a finite"),
        ({"metrics": {"loss": float("-inf")}}, "data.ModelUploaded.metrics.loss: Input should be a finite"),
        ({"metrics": {"a b": 1.0}}, "data.ModelUploaded.metrics.?.[key]: String should match pattern"),
        ({"metrics": {f"m{n}": 1.0 for n in range(65)}}, "data.ModelUploaded.metrics: Dictionary should"),
        ({"sha256": "A" * 64}, "data.ModelUploaded.sha256: String should match pattern"),
        ({"client_id": "ana"}, "data.ModelUploaded.client_id: Input should be a valid UUID"),
        ({"type": "RoundClosed"}, "data: is none that is taken here"),
    ],
)
def test_data_that_is_not_as_agreed_is_malformed_and_the_sentence_says_where(
    changes: dict[str, Any], sentence: str
) -> None:
    assert refusal_of(a_report(**changes)).startswith(sentence)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("type", "TaskFailed"),
        ("dataschema", "urn:warren:ModelUploaded:2.0"),
        ("trainingid", "00000000-0000-0000-0000-000000000009"),
        ("trainingid", None),
    ],
)
def test_an_envelope_that_says_other_than_its_data_is_malformed(field: str, value: str | None) -> None:
    sentence = refusal_of({**a_report(), field: value})
    assert sentence.endswith("type, dataschema and trainingid must say the same as data")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"\xff\xfe",
        b'{"a": "\\ud800"}',
        b"[" * MAX_REPORT_BYTES,
        b'{"data":' * 5_000,
        json.dumps(a_report()).replace('"round": 0', '"round": ' + "9" * 9_000).encode(),
        json.dumps(a_report(metrics={"loss": 0.5})).replace("0.5", "1e999").encode(),
        json.dumps(a_report())[:-1].encode(),
        json.dumps(a_report()).encode() + b"{}",
    ],
    ids=lambda body: repr(body[:20]),
)
def test_what_is_no_json_of_ours_is_malformed(body: bytes) -> None:
    assert len(refusal_of(body)) < 700


def test_a_message_above_the_limit_is_refused_before_it_is_parsed() -> None:
    limit = MAX_REPORT_BYTES
    assert refusal_of(b"[" * (limit + 1)) == f"the message has {limit + 1} bytes; at most {limit} are taken"


@pytest.mark.parametrize(
    "changes", [{"x\nINFO all is well": 1}, {"type": "x\nINFO"}, {"metrics": {"x\n": 1.0}}, {"x" * 300: 1}]
)
def test_a_refusal_repeats_nothing_that_could_forge_a_line_of_a_log(changes: dict[str, Any]) -> None:
    sentence = refusal_of(a_report(**changes))
    assert "\n" not in sentence
    assert "INFO" not in sentence
    assert len(sentence) < 200


def test_of_a_name_given_twice_the_last_counts_and_is_told_on_once() -> None:
    body = json.dumps(a_report()).replace('"num_examples": 10', '"num_examples": 5, "num_examples": 6')
    assert encode(decode(body.encode(), ClientReport)).count(b'"num_examples":6') == 1


def test_a_text_keeps_no_nul() -> None:
    golden = path_of("from-clients", "TaskFailed").read_text().replace("exit code", "exit\\u0000code")
    assert decode(golden.encode(), ClientReport).data.reason == "exit\N{REPLACEMENT CHARACTER}code 1"


EVERY_TYPE = sorted(
    {kind for union in DIRECTIONS.values() for kind in members(union)}, key=lambda k: k.__name__
)
UNION_OF = {kind: union for union in DIRECTIONS.values() for kind in members(union)}


@pytest.mark.parametrize("kind", EVERY_TYPE, ids=lambda kind: kind.__name__)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_any_message_survives_the_wire(kind: type[Message], data: st.DataObject) -> None:
    message = data.draw(instances(kind))
    envelope = enclose(message, id=MessageId(data.draw(st.uuids())), source="test", time=NOON)
    body = encode(envelope)
    assert decode(body, UNION_OF[kind]) == envelope
    assert encode(decode(body, UNION_OF[kind])) == body


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.floats() | st.text(), st.lists).map(repr).map(str.encode)
)
def test_any_bytes_are_a_message_or_malformed(body: bytes) -> None:
    try:
        decode(body, Event)
    except Malformed:
        return
    raise AssertionError("noise is no message")
