"""A private S3 server: `rclone serve s3` over a directory."""

import http.client
import os
from pathlib import Path

from infra.stack.processes import Program
from infra.stack.record import Record, S3Address

PORTS = frozenset({"s3"})


# ETags are opaque version marks: a 128-bit hash that costs a tenth of MD5, remembered for as long as
# the directory cache lives.  Nobody but this server writes the directory, so the cache is never stale.
# Read-ahead is wasted on ranges, as is waiting (20 ms by default) whether a read before comes in after all.
# An MD5 of every whole read, which nobody compares with anything of ours, would cost four times the reading.
# Removing "empty" folders would race with the next upload into them.
_OPTIONS = (
    *("--config", os.devnull),
    *("--etag-hash", "XXH128"),
    *("--dir-cache-time", "8760h"),
    *("--buffer-size", "0"),
    *("--vfs-read-wait", "0"),
    "--no-checksum",
    "--no-cleanup",
)


def program(rclone: Path, record: Record, root: Path) -> Program:
    data = root / "s3"
    address = record.endpoints.s3
    (data / address.bucket).mkdir(parents=True, exist_ok=True)  # a bucket is a directory
    return Program(
        name="s3",
        argv=(str(rclone), "serve", "s3", str(data), "--addr", address.endpoint, *_OPTIONS),
        env={"HOME": str(root), "RCLONE_AUTH_KEY": f'"{address.access_key},{address.secret_key}"'},
        is_ready=lambda: answers(address),
    )


def answers(address: S3Address) -> bool:
    connection = http.client.HTTPConnection(address.endpoint, timeout=1)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status > 0
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
