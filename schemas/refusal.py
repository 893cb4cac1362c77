"""What a no looks like."""

from typing import ClassVar


class Refusal(Exception):
    """Answered with an event or a 4xx, never retried.  Anything else is a fault."""

    code: ClassVar[str] = "refused"
