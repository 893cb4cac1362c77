"""RabbitMQ and PostgreSQL in containers, for machines where an engine answers and the programs are missing.

Each container has a keeper, a process like any other server's: see `keeper`.
The S3 server needs no container: rclone comes with the same Python extra as the Docker client.
"""

import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import ClassVar

import docker
from docker import DockerClient
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from testcontainers.core.config import testcontainers_config

from infra.stack import postgres, rabbitmq
from infra.stack.processes import Program
from infra.stack.record import Record
from schemas.refusal import Refusal

IMAGES = {"rabbitmq": "rabbitmq:4.1-management", "postgres": "postgres:17"}
_ANSWER_S = 20  # a busy engine takes seconds even to say its version


class ImageMissing(Refusal):
    code: ClassVar[str] = "image_missing"

    def __init__(self, image: str, why: object) -> None:
        self.image = image
        super().__init__(
            f"the image {image} is not on this machine and could not be pulled ({why}):"
            f" bring it here with `docker pull {image}` or `docker load`, or install the program itself"
        )


class EngineSilent(Refusal):
    code: ClassVar[str] = "engine_silent"

    def __init__(self, why: object) -> None:
        super().__init__(
            "RabbitMQ and PostgreSQL of this stack live in containers, and no Docker engine answers"
            f" ({why}): start it, or say in DOCKER_HOST where it is"
        )


class EngineRefused(Refusal):
    code: ClassVar[str] = "engine_refused"

    def __init__(self, why: object) -> None:
        super().__init__(f"the Docker engine refused what the stack needs: {why}")


def engine_answers() -> bool:
    try:
        with closing(docker.from_env(timeout=_ANSWER_S)) as client:
            return bool(client.ping())
    except (DockerException, OSError):
        return False


def fetch_images() -> None:
    """Pull those that are not here yet."""
    with _engine() as client:
        for image in IMAGES.values():
            _fetch(client, testcontainers_config.hub_image_name_prefix + image)


def programs(record: Record, root: Path, definitions: Path | None) -> tuple[Program, Program]:
    """The keepers of broker and database, in the order in which they are to start."""
    rabbitmq.write_files(root / "rabbitmq", record, definitions)
    arguments = (str(root), *((str(definitions.resolve()),) if definitions else ()))
    return (
        _keeper("rabbitmq", arguments, lambda: rabbitmq.greets(record.ports.amqp)),
        _keeper("postgres", arguments, lambda: postgres.accepts(record.endpoints.postgres)),
    )


def remove(server: str, root: Path, patience_s: int = 0) -> None:
    """Its data stay.  With patience it is asked to stop first."""
    with _engine() as client, suppress(NotFound):
        container = client.containers.get(name(server, root))
        if patience_s:
            container.stop(timeout=patience_s)
        container.remove(force=True, v=True)


def name(server: str, root: Path) -> str:
    return f"warren-{server}-{hashlib.sha256(bytes(root)).hexdigest()[:8]}"


def user() -> str | None:
    """Who works inside: whoever asks, so that the data can be removed; None where the image has to decide.

    The images' own scripts give root's work to users of their own.  For an engine without privileges
    we are the root inside.
    """
    with _engine() as client:
        options = client.info().get("SecurityOptions") or ()
    if os.geteuid() == 0 or any("rootless" in option for option in options):
        return None
    return f"{os.geteuid()}:{os.getegid()}"


def _fetch(client: DockerClient, image: str) -> None:
    try:
        client.images.get(image)
    except ImageNotFound:
        try:
            client.images.pull(image)
        except APIError as error:
            raise ImageMissing(image, error.explanation or error) from error


def _keeper(server: str, arguments: tuple[str, ...], is_ready: Callable[[], bool]) -> Program:
    return Program(
        name=server,
        argv=(sys.executable, "-m", "infra.stack.keeper", server, *arguments),
        env=dict(os.environ),  # where the engine is, and how to log in
        is_ready=is_ready,
        tether="HUP",  # it has a container to take along
    )


@contextmanager
def _engine() -> Iterator[DockerClient]:
    try:
        with closing(docker.from_env()) as client:
            yield client
    except APIError as error:
        raise EngineRefused(error.explanation or error) from error
    except (DockerException, OSError) as error:
        raise EngineSilent(error) from error
