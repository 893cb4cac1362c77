import json

import pytest
import safetensors
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors import SafetensorError

from infra.weights.header import MAX_HEADER, header_size, parse_header
from infra.weights.layout import Layout, canonical
from infra.weights.refusals import MalformedWeights
from schemas.refusal import Refusal
from tests.unit.weights.strategies import layouts

F32 = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


def a_header(text: str | bytes) -> bytes:
    encoded = text.encode() if isinstance(text, str) else text
    return len(encoded).to_bytes(8, "little") + encoded


def described(**entries: object) -> bytes:
    return a_header(json.dumps(entries))


def by_the_library(file: bytes) -> list[tuple[str, dict[str, object]]]:
    found: list[tuple[str, dict[str, object]]] = safetensors.deserialize(file)  # type: ignore[no-untyped-call]  # Rust
    return found


HOSTILE = {
    "not json": a_header("{"),
    "a list": a_header("[]"),
    "not utf-8": a_header(b'{"\xff": 1}'),
    "a key twice": a_header('{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},' * 2 + '"b":1}'),
    "a field twice": a_header('{"a":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}}'),
    "deep nesting": a_header('{"a":' + "[" * 200_000 + "]" * 200_000 + "}"),
    "a huge number": a_header('{"a":' + "9" * 5_000 + "}"),
    "NaN": a_header('{"a": NaN}'),
    "trailing text": a_header('{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}} x'),
    "unknown dtype": described(w=F32 | {"dtype": "F8_E5M2"}),
    "no dtype": described(w={"shape": [1], "data_offsets": [0, 4]}),
    "unknown field": described(w=F32 | {"evil": 1}),
    "entry is a number": described(w=1),
    "negative size": described(w=F32 | {"shape": [-1]}),
    "minus zero": a_header('{"w":{"dtype":"F32","shape":[-0],"data_offsets":[0,0]}}'),
    "fractional size": described(w=F32 | {"shape": [1.0]}),
    "boolean size": described(w=F32 | {"shape": [True]}),
    "boolean offset": described(w=F32 | {"dtype": "U8", "data_offsets": [False, True]}),
    "overflowing product": described(w=F32 | {"shape": [2**32, 2**32, 2**32]}),
    "huge empty shape": described(w=F32 | {"shape": [0, 2**62], "data_offsets": [0, 0]}),
    "three offsets": described(w=F32 | {"data_offsets": [0, 4, 8]}),
    "offsets too far apart": described(w=F32 | {"data_offsets": [0, 8]}),
    "offsets reversed": described(w=F32 | {"data_offsets": [4, 0]}),
    "data before the first": described(w=F32 | {"data_offsets": [4, 8]}),
    "a gap": described(w=F32, v=F32 | {"data_offsets": [8, 12]}),
    "an overlap": described(w=F32, v=F32),
    "a terminal escape": described(**{"\x1b[2J": F32}),
    "a long name": described(**{"n" * 100_000: F32}),
    "metadata of numbers": described(__metadata__={"epoch": 1}, w=F32),
    "metadata is a list": described(__metadata__=[], w=F32),
    "too much metadata": described(__metadata__={"note": "x" * 5_000}, w=F32),
    "half a character in metadata": a_header('{"__metadata__":{"a":"\\ud800"}}'),
    "too many tensors": described(
        **{str(i): F32 | {"shape": [0], "data_offsets": [0, 0]} for i in range(20_001)}
    ),
}


@pytest.mark.parametrize("header", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_header_is_refused_with_a_short_sentence(header: bytes) -> None:
    with pytest.raises(MalformedWeights) as refusal:
        parse_header(header)
    assert len(str(refusal.value)) < 400
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize(
    "prefix", [b"", b"\0" * 7, (1).to_bytes(8, "little"), (MAX_HEADER + 1).to_bytes(8, "little")]
)
def test_a_header_of_absurd_length_is_refused_before_it_is_read(prefix: bytes) -> None:
    with pytest.raises(MalformedWeights):
        header_size(prefix)


def test_metadata_is_admitted_but_not_canonical() -> None:
    layout = parse_header(described(__metadata__={"format": "pt"}, w=F32))
    assert [tensor.name for tensor in layout.tensors] == ["w"]
    assert not layout.is_canonical


@given(layouts(), st.data())
@example(canonical([]), None)
def test_what_we_accept_the_library_accepts_with_the_same_meaning(
    layout: Layout, data: st.DataObject | None
) -> None:
    header = bytearray(layout.header)
    for _ in range(data.draw(st.integers(0, 3)) if data else 0):
        assert data is not None
        header[data.draw(st.integers(8, len(header) - 1))] = data.draw(
            st.sampled_from(b'{}[]",:0123456789 ABFIU-\\')
        )
    try:
        parsed = parse_header(bytes(header))
    except Refusal:
        return
    ours = {t.name: (str(t.dtype), list(t.shape)) for t in parsed.tensors}
    theirs = by_the_library(bytes(header) + bytes(parsed.data_size))
    assert {name: (entry["dtype"], entry["shape"]) for name, entry in theirs} == ours


def test_the_library_agrees_that_garbage_is_garbage() -> None:
    with pytest.raises(SafetensorError):
        by_the_library(HOSTILE["trailing text"] + bytes(4))
