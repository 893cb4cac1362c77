"""An S3 server of our own to measure on, as the local stack starts it, and a folder as a store."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import SecretStr

from infra.objects.settings import ObjectStoreSettings
from infra.stack import install, processes, s3
from infra.stack.install import ServerMissing
from infra.stack.record import Record

_START_S = 30.0


@contextmanager
def s3_server(root: Path) -> Iterator[ObjectStoreSettings]:
    """It dies with us."""
    rclone = install.find_one("rclone", install.places())
    if rclone is None:
        raise ServerMissing(["rclone"])
    record = Record.fresh()
    program = s3.program(rclone, record, root)
    processes.launch(program, root, tethered=True)
    try:
        processes.wait_ready(program, root, _START_S)
        address = record.endpoints.s3
        yield ObjectStoreSettings(
            url=address.url,
            access_key=address.access_key,
            secret_key=SecretStr(address.secret_key),
            bucket=address.bucket,
        )
    finally:
        processes.stop([program.name], root, _START_S)
