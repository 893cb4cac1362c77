"""Who the agent is, and the locks on its door."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, ClassVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from infra.broker.settings import BrokerSettings
from schemas.ids import ClientId
from schemas.refusal import Refusal


class CredentialsUnreadable(Refusal):
    code: ClassVar[str] = "credentials_unreadable"

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"the credentials file {path} cannot be used: {why}; "
            "it must be the JSON that enrolment gave: client_id, amqp_url, queue"
        )


class DataFolderInUse(Refusal):
    code: ClassVar[str] = "data_folder_in_use"

    def __init__(self, folder: Path) -> None:
        super().__init__(f"another agent works in {folder}; give each agent a data folder of its own")


class DataFolderUnusable(Refusal):
    code: ClassVar[str] = "data_folder_unusable"

    def __init__(self, folder: Path, why: str) -> None:
        super().__init__(f"the agent cannot keep its data in {folder}: {why}; name another folder")


class Credentials(BaseModel):
    """A JSON file, as enrolment gave it.  A site with a client certificate names its files too."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    client_id: UUID
    amqp_url: SecretStr
    queue: str
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None

    @property
    def client(self) -> ClientId:
        return ClientId(self.client_id)

    @property
    def broker(self) -> BrokerSettings:
        return BrokerSettings(
            url=self.amqp_url,
            ca_file=self.ca_file,
            certificate_file=self.certificate_file,
            key_file=self.key_file,
        )


def read_credentials(path: Path) -> Credentials:
    try:
        found = Credentials.model_validate_json(path.read_bytes())
        login = found.broker.login
    except OSError as error:
        raise CredentialsUnreadable(path, error.strerror or "it cannot be read") from None
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        raise CredentialsUnreadable(path, "; ".join(fault["msg"] for fault in faults[:3])) from None
    if login != str(found.client_id):
        raise CredentialsUnreadable(path, "the login in amqp_url is not the client_id")
    return found


@contextmanager
def sole_user_of(folder: Path) -> Iterator[None]:
    """Holds the folder; the lock ends with the process, however that ends."""
    with _lock_file(folder) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataFolderInUse(folder) from None
        yield


def _lock_file(folder: Path) -> IO[str]:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return (folder / "lock").open("w")
    except OSError as error:
        raise DataFolderUnusable(folder, error.strerror or str(error)) from None
