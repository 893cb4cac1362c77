"""The envelope: CloudEvents 1.0, structured JSON."""

import re
from datetime import datetime
from functools import cache
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar

from pydantic import AwareDatetime, Field, StringConstraints, TypeAdapter, ValidationError, model_validator
from pydantic_core import ErrorDetails

from schemas.ids import MessageId, TrainingId
from schemas.message import Message, TrainingMessage, Words
from schemas.refusal import Refusal

CONTENT_TYPE = "application/cloudevents+json"
MAX_MESSAGE_BYTES = 2**20
MAX_REPORT_BYTES = 2**16  # what a client may say in one message
SCHEMA_VERSION = "1.0"

M_co = TypeVar("M_co", bound=Message, covariant=True)


class Envelope(Words, Generic[M_co]):
    """One message on its way.

    `type`, `trainingid` and `dataschema` mirror `data`, and are refused where they do not.
    """

    specversion: Literal["1.0"] = "1.0"
    id: MessageId
    source: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    type: Annotated[str, StringConstraints(max_length=64)]
    subject: Annotated[str, StringConstraints(max_length=256)] | None = None
    time: AwareDatetime
    datacontenttype: Literal["application/json"] = "application/json"
    dataschema: Annotated[str, StringConstraints(max_length=256)]
    trainingid: TrainingId | None = None
    sequence: int | None = Field(default=None, ge=1)
    causationid: MessageId | None = None
    correlationid: MessageId | None = None
    data: M_co

    @model_validator(mode="after")
    def _mirrors_its_data(self) -> "Envelope[M_co]":
        expected = (self.data.type, dataschema(self.data), _training_of(self.data))
        if (self.type, self.dataschema, self.trainingid) != expected:
            raise ValueError("type, dataschema and trainingid must say the same as data")
        return self


class Malformed(Refusal):
    """Not a message of ours.  The sentence is short and repeats nothing of the body."""

    code: ClassVar[str] = "malformed"


def dataschema(message: Message) -> str:
    return f"urn:warren:{message.type}:{SCHEMA_VERSION}"


def enclose(  # noqa: PLR0913 -- the attributes of the envelope
    data: Message,
    *,
    id: MessageId,  # noqa: A002 -- the name CloudEvents gives it
    source: str,
    time: datetime,
    subject: str | None = None,
    sequence: int | None = None,
    causationid: MessageId | None = None,
) -> Envelope[Message]:
    training = _training_of(data)
    return Envelope(
        id=id,
        source=source,
        type=data.type,
        subject=subject,
        time=time,
        dataschema=dataschema(data),
        trainingid=training,
        sequence=sequence,
        causationid=causationid,
        correlationid=MessageId(training) if training else None,
        data=data,
    )


def encode(envelope: Envelope[Message]) -> bytes:
    return envelope.__pydantic_serializer__.to_json(envelope, exclude_none=True, serialize_as_any=True)


def decode(body: bytes, union: Any, *, limit: int = MAX_MESSAGE_BYTES) -> Envelope[Any]:
    """Parse `body` as an envelope around one message of `union`; raises `Malformed`, and nothing else."""
    if len(body) > limit:
        raise Malformed(f"the message has {len(body)} bytes; at most {limit} are taken")
    try:
        return _envelope_of(union).validate_json(body)
    except ValidationError as error:
        raise Malformed(_first_faults(error)) from None


@cache
def _envelope_of(union: Any) -> TypeAdapter[Envelope[Any]]:
    return TypeAdapter(Envelope[union])


def _training_of(message: Message) -> TrainingId | None:
    return message.training_id if isinstance(message, TrainingMessage) else None


def _first_faults(error: ValidationError) -> str:
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    told = "; ".join(map(_sentence, faults[:3]))
    return f"{told}; and {len(faults) - 3} more" if len(faults) > 3 else told


def _sentence(fault: ErrorDetails) -> str:
    place = ".".join(map(_name, fault["loc"])) or "message"
    said = "is none that is taken here" if fault["type"] == "union_tag_invalid" else fault["msg"]
    return f"{place}: {said}"[:200]


def _name(part: int | str) -> str:
    """A field or an index; what only looks like one may be anything that somebody wants in our logs."""
    return str(part) if isinstance(part, int) or _NAME.fullmatch(part) else "?"


_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,31}|\[key\]")
