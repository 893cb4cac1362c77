"""What services keep between runs, in `services.json`: their passwords and the API's port."""

import secrets
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from infra.stack.record import free_ports, is_free


class Logins(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    admin: str = Field(repr=False)  # of the REST API
    scheduler: str = Field(repr=False)
    aggregator: str = Field(repr=False)
    api_port: int

    @classmethod
    def fresh(cls) -> Self:
        (port,) = free_ports(1)
        return cls(admin=_password(), scheduler=_password(), aggregator=_password(), api_port=port)

    @classmethod
    def find(cls, root: Path) -> Self | None:
        file = _file(root)
        return cls.model_validate_json(file.read_bytes()) if file.exists() else None

    def keep(self, root: Path) -> None:
        write_secret(_file(root), self.model_dump_json(indent=2))

    def moved(self) -> Self:
        """With another port for the API, if somebody took ours while it was down."""
        if is_free(self.api_port):
            return self
        (port,) = free_ports(1)
        return self.model_copy(update={"api_port": port})


def write_secret(path: Path, text: str) -> None:
    """Readable by the owner only, and never half written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.draft")
    draft.touch(mode=0o600)
    draft.chmod(0o600)
    draft.write_text(text)
    draft.replace(path)


def _file(root: Path) -> Path:
    return root / "services.json"


def _password() -> str:
    return secrets.token_urlsafe(24)
