"""What can stand in the way of a command."""

from pathlib import Path
from typing import ClassVar

from schemas.refusal import Refusal


class NothingRunning(Refusal):
    code: ClassVar[str] = "nothing_running"

    def __init__(self, root: Path) -> None:
        super().__init__(f"nothing is running under {root}; start it with: warren up{_dir_option(root)}")


class Unreachable(Refusal):
    code: ClassVar[str] = "unreachable"

    def __init__(self, url: str, why: str) -> None:
        super().__init__(f"the API at {url} does not answer: {why}")


class Refused(Refusal):
    """The API said no."""

    code: ClassVar[str] = "refused_by_api"

    def __init__(self, status: int, detail: str) -> None:
        self.status = status
        super().__init__(f"{detail} ({status})")


class NotThere(Refusal):
    code: ClassVar[str] = "not_there"

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"there is no {kind} {name!r}")


class CommandFailed(Refusal):
    """What was asked for came to a bad end; the sentence says which."""

    code: ClassVar[str] = "failed"


def _dir_option(root: Path) -> str:
    return "" if root == Path(".warren") else f" --dir {root}"
