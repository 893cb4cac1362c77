"""Keeps one container: starts it, passes on what it says, ends when it ends, takes it along when told to end.

`infra.stack.containers` starts it:  python -m infra.stack.keeper SERVER ROOT [DEFINITIONS]
"""

import signal
import sys
from pathlib import Path
from types import FrameType

from docker.errors import APIError
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from infra.stack import containers
from infra.stack.record import HOST, Record
from schemas.refusal import Refusal

_STOP_S = 25  # less than our own time to stop
_PATIENCE_S = {signal.SIGTERM: _STOP_S, signal.SIGHUP: 0}  # a hang-up: who started us is gone


class _Told(BaseException):
    def __init__(self, number: int) -> None:
        self.patience_s = _PATIENCE_S[signal.Signals(number)]
        super().__init__(number)


def main() -> None:
    server, root = sys.argv[1], Path(sys.argv[2])
    definitions = Path(sys.argv[3]) if sys.argv[3:] else None
    testcontainers_config.ryuk_disabled = True  # we are here, and no other image is needed
    for number in _PATIENCE_S:
        signal.signal(number, _tell)
    try:
        _keep(server, root, definitions)
    except Refusal as refusal:
        sys.exit(str(refusal))


def _keep(server: str, root: Path, definitions: Path | None) -> None:
    patience_s = 0
    try:
        containers.remove(server, root)  # left behind by a keeper that was killed
        record = Record.read(root / "stack.json")
        _follow(_postgres(record, root) if server == "postgres" else _rabbitmq(record, root, definitions))
    except _Told as told:
        patience_s = told.patience_s
    finally:
        containers.remove(server, root, patience_s)


def _follow(container: DockerContainer) -> None:
    try:
        container.start()
        for piece in container.get_wrapped_container().logs(stream=True, follow=True):
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
        sys.exit(f"the container ended with {container.wait()}")
    except APIError as error:
        raise containers.EngineRefused(error.explanation or error) from error
    except OSError as error:
        raise containers.EngineSilent(error) from error


def _rabbitmq(record: Record, root: Path, definitions: Path | None) -> DockerContainer:
    home, ports = root / "rabbitmq", record.ports
    container = _container("rabbitmq", root, home / "container", "/var/lib/rabbitmq").with_envs(
        RABBITMQ_NODENAME="warren@localhost",
        RABBITMQ_DIST_PORT=str(ports.distribution),
        ERL_EPMD_PORT=str(ports.epmd),
        ERL_EPMD_ADDRESS=HOST,
        RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}",
    )
    (home / "rabbitmq.conf").chmod(0o644)  # may be read inside by another user
    for file in ("rabbitmq.conf", "enabled_plugins"):
        container.with_volume_mapping(home / file, f"/etc/rabbitmq/{file}", "ro")
    return container.with_volume_mapping(definitions, str(definitions), "ro") if definitions else container


def _postgres(record: Record, root: Path) -> DockerContainer:
    address = record.endpoints.postgres
    container = _container("postgres", root, root / "postgres-container", "/var/lib/postgresql/data")
    return container.with_command(["-c", f"listen_addresses={HOST}", "-c", f"port={address.port}"]).with_envs(
        POSTGRES_USER=address.user, POSTGRES_PASSWORD=address.password, POSTGRES_DB=address.database
    )


def _container(server: str, root: Path, data: Path, inside: str) -> DockerContainer:
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    return (
        DockerContainer(containers.IMAGES[server])
        .with_name(containers.name(server, root))
        .with_kwargs(network_mode="host", user=containers.user())
        .with_volume_mapping(data, inside, "rw")
    )


def _tell(number: int, _: FrameType | None) -> None:
    for other in _PATIENCE_S:
        signal.signal(other, signal.SIG_IGN)  # once is enough
    raise _Told(number)


if __name__ == "__main__":
    main()
