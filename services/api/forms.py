"""What callers send as forms: repeated names, free text."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.api.errors import BadInput

_FREE = frozenset({"none", "null"})
_MAX_RANK = 32
_MAX_DIMENSION = 2**31 - 1
_MAX_METRICS = 256
_MAX_NAME = 64
_MAX_VALUE = 65_536


@dataclass(frozen=True, slots=True)
class Measurement:
    """A number, or else the bytes that were sent."""

    key: str
    number: float | None
    raw: bytes | None = None


def input_shape(dimensions: Sequence[str]) -> tuple[int | None, ...] | None:
    """Repeated fields, or one with commas; `None` or `null` is a dimension that is free."""
    parts = [part.strip() for text in dimensions for part in text.strip("[]() ").split(",")]
    if len(parts) > _MAX_RANK:
        raise BadInput({"input_shape": [f"has {len(parts)} dimensions; at most {_MAX_RANK} are taken"]})
    return tuple(_dimension(part) for part in parts if part) or None


def measurements(names: Sequence[str], values: Iterable[str | bytes]) -> tuple[Measurement, ...]:
    told = tuple(values)
    if len(names) != len(told):
        raise BadInput(
            {"metric_values": [f"there are {len(names)} metric_names but {len(told)} metric_values"]}
        )
    if len(names) > _MAX_METRICS:
        raise BadInput({"metric_names": [f"at most {_MAX_METRICS} are taken at once"]})
    return tuple(_measurement(name, value) for name, value in zip(names, told, strict=True))


def _dimension(text: str) -> int | None:
    if text.lower() in _FREE:
        return None
    if text.isascii() and text.isdigit() and len(text) <= 10 and 1 <= int(text) <= _MAX_DIMENSION:
        return int(text)
    raise BadInput({"input_shape": [f"{text[:20]!r} is neither a positive whole number nor None"]})


def _measurement(name: str, value: str | bytes) -> Measurement:
    if not 1 <= len(name) <= _MAX_NAME or not name.isprintable():
        raise BadInput({"metric_names": [f"{name[:20]!r} is not 1 to {_MAX_NAME} printable characters"]})
    raw = value.encode() if isinstance(value, str) else value
    if len(raw) > _MAX_VALUE:
        raise BadInput({"metric_values": [f"{name!r} has more than {_MAX_VALUE} bytes"]})
    number = _number(raw)
    return Measurement(name, number, None if number is not None else raw)


def _number(raw: bytes) -> float | None:
    """What is no finite number is kept as it came: NaN has no place in JSON."""
    try:
        number = float(raw.decode("ascii"))
    except ValueError:
        return None
    return number if math.isfinite(number) else None
