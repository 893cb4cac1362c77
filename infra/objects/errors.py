"""What may be wrong with an object, and with the store."""

from typing import ClassVar

from schemas.refusal import Refusal


class ObjectMissing(Refusal):
    code: ClassVar[str] = "object_missing"

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"there is no object {key}")


class ObjectChanged(Refusal):
    code: ClassVar[str] = "object_changed"

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"object {key} is no longer the one that was referred to")


class ObjectTooLarge(Refusal):
    code: ClassVar[str] = "object_too_large"

    def __init__(self, key: str, limit: int) -> None:
        self.key, self.limit = key, limit
        super().__init__(f"object {key} has more than {limit} bytes")


class ObjectStoreUnavailable(Exception):
    """A fault: the store cannot be reached or does not do what it should.  Try again later."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the object store failed: {why[:500]}")
