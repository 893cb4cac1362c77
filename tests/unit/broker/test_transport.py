"""Blanking what cannot be decoded."""

import struct

import pamqp.frame
import pytest
from aiormq import spec
from hypothesis import given
from hypothesis import strategies as st
from pamqp.header import ContentHeader

from infra.broker.transport import harmless
from tests.integration.broker.messages import HOSTILE_PROPERTIES


def header_frame(flags: int, properties: bytes) -> bytes:
    payload = struct.pack(">HHQH", 60, 0, 2, flags) + properties
    return struct.pack(">BHI", 2, 1, len(payload)) + payload + b"\xce"


def test_what_can_be_decoded_is_not_touched() -> None:
    header = ContentHeader(body_size=2, properties=spec.Basic.Properties(user_id="ana", headers={"a": 1}))
    frame = pamqp.frame.marshal(header, 1)
    assert harmless(frame) is frame


@pytest.mark.parametrize("told", HOSTILE_PROPERTIES.values(), ids=HOSTILE_PROPERTIES)
def test_what_cannot_be_decoded_is_blank_and_as_long(told: tuple[int, bytes]) -> None:
    frame = header_frame(*told)
    blank = harmless(frame)
    size, channel, header = pamqp.frame.unmarshal(blank)
    assert size == len(blank) == len(frame)
    assert channel == 1
    assert isinstance(header, ContentHeader)
    assert header.body_size == 2
    assert header.properties.user_id is None


@given(st.integers(0, 2**16 - 1), st.binary(max_size=200))
def test_any_bytes_can_be_decoded_afterwards(flags: int, properties: bytes) -> None:
    pamqp.frame.unmarshal(harmless(header_frame(flags, properties)))
