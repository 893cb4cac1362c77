"""RabbitMQ and PostgreSQL in Docker, for machines where an engine answers and the programs are missing.

The S3 server needs no container: rclone comes with the same Python extra as the Docker client.
"""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import docker
from docker.errors import DockerException, NotFound
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from infra.stack import postgres, rabbitmq
from infra.stack.record import HOST, Record

_RABBITMQ = "rabbitmq:4.1-management"
_POSTGRES = "postgres:17"


class ContainerDidNotStart(Exception):
    def __init__(self, name: str, timeout_s: float) -> None:
        super().__init__(f"container {name} was not ready after {timeout_s:.0f} s: see `docker logs {name}`")


def engine_answers() -> bool:
    try:
        client = docker.from_env(timeout=5)
    except DockerException:
        return False
    try:
        return bool(client.ping())
    except (DockerException, OSError):
        return False
    finally:
        client.close()


def start(record: Record, root: Path, definitions: Path | None, *, tethered: bool, timeout_s: float) -> None:
    """Start both, their data under `root`.  Tethered: Docker's reaper removes them after this process."""
    testcontainers_config.ryuk_disabled = not tethered
    wanted: dict[str, tuple[DockerContainer, Callable[[], bool]]] = {
        "rabbitmq": (_rabbitmq(record, root, definitions), lambda: rabbitmq.greets(record.ports.amqp)),
        "postgres": (_postgres(record, root), lambda: postgres.accepts(record.endpoints.postgres)),
    }
    for server, (container, _) in wanted.items():
        if not is_running(server, root):
            _remove(server, root)
            container.start()
    deadline = time.monotonic() + timeout_s
    for server, (_, is_ready) in wanted.items():
        while not is_ready():
            if time.monotonic() > deadline:
                raise ContainerDidNotStart(_name(server, root), timeout_s)
            time.sleep(0.1)


def is_running(server: str, root: Path) -> bool:
    client = docker.from_env()
    try:
        return str(client.containers.get(_name(server, root)).status) == "running"
    except NotFound:
        return False
    finally:
        client.close()


def stop(root: Path) -> None:
    for server in ("rabbitmq", "postgres"):
        _remove(server, root)


def _remove(server: str, root: Path) -> None:
    client = docker.from_env()
    try:
        container = client.containers.get(_name(server, root))
        container.stop(timeout=30)
        container.remove()
    except NotFound:
        return
    finally:
        client.close()


def _name(server: str, root: Path) -> str:
    return f"warren-{server}-{hashlib.sha256(bytes(root)).hexdigest()[:8]}"


def _rabbitmq(record: Record, root: Path, definitions: Path | None) -> DockerContainer:
    home = root / "rabbitmq"
    rabbitmq.write_files(home, record, definitions)
    (home / "rabbitmq.conf").chmod(0o644)  # read inside by another user
    container = (
        DockerContainer(_RABBITMQ)
        .with_name(_name("rabbitmq", root))
        .with_kwargs(hostname="localhost", network_mode="host")
        .with_volume_mapping(home / "container", "/var/lib/rabbitmq", "rw")
        .with_volume_mapping(home / "rabbitmq.conf", "/etc/rabbitmq/rabbitmq.conf", "ro")
        .with_volume_mapping(home / "enabled_plugins", "/etc/rabbitmq/enabled_plugins", "ro")
    )
    return container.with_volume_mapping(definitions, str(definitions), "ro") if definitions else container


def _postgres(record: Record, root: Path) -> DockerContainer:
    address = record.endpoints.postgres
    return (
        DockerContainer(_POSTGRES)
        .with_name(_name("postgres", root))
        .with_kwargs(network_mode="host")
        .with_command(["-c", f"listen_addresses={HOST}", "-c", f"port={address.port}"])
        .with_env("POSTGRES_USER", address.user)
        .with_env("POSTGRES_PASSWORD", address.password)
        .with_env("POSTGRES_DB", address.database)
        .with_volume_mapping(root / "postgres-container", "/var/lib/postgresql/data", "rw")
    )
