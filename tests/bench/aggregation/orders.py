"""What a measured worker process is told, and what it says."""

from typing import Annotated, Literal

from pydantic import Field, SerializeAsAny, TypeAdapter

from infra.objects.settings import ObjectStoreSettings
from schemas.commands import AggregatorCommand
from schemas.message import Words
from schemas.reports import AggregatorReport
from schemas.weights import ETag, ObjectKey


class Place(Words):
    """The store of a worker: the S3 server's, or else a folder."""

    s3: ObjectStoreSettings | None = None
    secret: str = ""  # of s3: settings do not tell theirs
    folder: str = ""


class Do(Words):
    """A command, as it comes from the broker."""

    type: Literal["Do"] = "Do"
    command: AggregatorCommand


class Read(Words):
    """Merely read these bytes, as the worker reads them."""

    type: Literal["Read"] = "Read"
    key: ObjectKey
    etag: ETag
    start: int
    stop: int


class Begin(Words):
    """From here on processor time counts."""

    type: Literal["Begin"] = "Begin"


class Hash(Words):
    """Take sha256 of so many bytes of memory."""

    type: Literal["Hash"] = "Hash"
    size: int


class Asked(Words):
    number: int
    order: Annotated[Do | Read | Hash | Begin, Field(discriminator="type")]


class Answered(Words):
    number: int
    seconds: float  # of this order alone
    report: SerializeAsAny[AggregatorReport] | None = None


class Ended(Words):
    """What the process has taken: memory from its start, time from `Begin`."""

    peak_mb: float
    cpu_s: float


ANSWER: TypeAdapter[Answered | Ended] = TypeAdapter(Answered | Ended)
