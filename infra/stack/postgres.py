"""A private PostgreSQL cluster with one database."""

import os
import pwd
import shutil
import signal
import socket
import stat
import struct
import subprocess
from pathlib import Path

from infra.stack import processes
from infra.stack.install import Binaries
from infra.stack.processes import Program, ServerDidNotStart, log_file
from infra.stack.record import HOST, PostgresAddress, Record

PORTS = frozenset({"postgres"})
_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "fsync": "on",
    "synchronous_commit": "on",
    "max_connections": "200",
    "jit": "off",
    "timezone": "UTC",
}


def program(binaries: Binaries, record: Record, root: Path) -> Program:
    """The server, to be started.  Its cluster is made first if there is none."""
    address = record.endpoints.postgres
    data = root / "postgres"
    privileges = _privileges(root)
    if not data.exists():
        _make_cluster(binaries, address, data, privileges)
    # A query in progress outlives a killed server and keeps its memory: a new one would refuse to start.
    processes.end_orphans(data, title=b"postgres: ")
    settings = {**_SETTINGS, "port": str(address.port)}
    return Program(
        name="postgres",
        argv=(
            *(str(binaries.postgres), "-D", str(data)),
            *(part for key, value in settings.items() for part in ("-c", f"{key}={value}")),
        ),
        env=_environment(),
        is_ready=lambda: accepts(address),
        stop_signal=signal.SIGINT,  # fast: does not wait for clients to leave
        privileges=privileges,
    )


def _make_cluster(
    binaries: Binaries, address: PostgresAddress, data: Path, privileges: tuple[str, ...]
) -> None:
    """All or nothing: the draft gets its final name last."""
    draft = data.with_suffix(".draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    if privileges:
        account = _account()
        os.chown(draft, account.pw_uid, account.pw_gid)
    as_user = ("setpriv", *privileges, "--") if privileges else ()
    _run((*as_user, *_initdb(binaries, address, draft)), "", data.parent)
    # On its standard input because a password among the arguments would be seen by everybody.
    sql = f"ALTER USER {address.user} PASSWORD '{address.password}'\nCREATE DATABASE {address.database}\n"
    _run((*as_user, str(binaries.postgres), "--single", "-D", str(draft), "postgres"), sql, data.parent)
    draft.rename(data)


def _initdb(binaries: Binaries, address: PostgresAddress, data: Path) -> tuple[str, ...]:
    return (
        *(str(binaries.initdb), "-D", str(data), "-U", address.user, "--no-sync"),
        *("--encoding=UTF8", "--locale=C.UTF-8"),
        *("--auth-host=scram-sha-256", "--auth-local=trust"),  # local is unused: there is no socket file
    )


def _run(argv: tuple[str, ...], text: str, root: Path) -> None:
    log = log_file("initdb", root)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as output:
        done = subprocess.run(  # noqa: S603 - our own arguments
            argv, input=text, text=True, stdout=output, stderr=output, env=_environment(), check=False
        )
    if done.returncode:
        raise ServerDidNotStart("initdb", f"ended with {done.returncode}", root)


def _privileges(root: Path) -> tuple[str, ...]:
    """PostgreSQL refuses to run as root; another user may be unable to enter the folders above ours."""
    if os.geteuid() != 0:
        return ()
    account = _account()
    identity = ("--reuid", str(account.pw_uid), "--regid", str(account.pw_gid), "--clear-groups")
    if all(place.stat().st_mode & stat.S_IXOTH for place in (root, *root.parents)):
        return identity
    return (*identity, "--inh-caps", "+dac_override", "--ambient-caps", "+dac_override")


def _account() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"}


def accepts(address: PostgresAddress) -> bool:
    """Whether a start-up message is answered with the question for a password, not with an error."""
    text = f"user\0{address.user}\0database\0{address.database}\0\0".encode()
    message = struct.pack("!ii", len(text) + 8, 3 << 16) + text  # protocol 3.0
    try:
        with socket.create_connection((address.host, address.port), timeout=1) as connection:
            connection.sendall(message)
            return connection.recv(1024).startswith(b"R")  # all of it, or the server logs a reset
    except OSError:
        return False
