"""A private RabbitMQ node: its configuration, its environment, its two processes."""

import os
import shlex
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

from infra.stack.install import Binaries
from infra.stack.processes import Program
from infra.stack.record import HOST, Record

PORTS = frozenset({"amqp", "management", "stream", "metrics", "epmd", "distribution"})
_PLUGINS = (
    "rabbitmq_management",
    "rabbitmq_stream",
    "rabbitmq_prometheus",
    "rabbitmq_consistent_hash_exchange",
)
_MIB = 1024 * 1024
_DAY_MS = 24 * 3600 * 1000


def programs(
    binaries: Binaries, record: Record, root: Path, definitions: Path | None
) -> tuple[Program, Program]:
    """The port mapper and the broker, in the order in which they must start."""
    home = root / "rabbitmq"
    write_files(home, record, definitions)
    env = _environment(binaries, record, home)
    _write_tool(binaries, home, env)
    mapper = Program(
        name="epmd",
        argv=(str(binaries.epmd), "-port", str(record.ports.epmd), "-address", HOST),
        env=env,
        is_ready=lambda: _listens(record.ports.epmd),
    )
    broker = Program(
        name="rabbitmq",
        argv=(str(binaries.rabbitmq_server),),
        env=env,
        is_ready=lambda: greets(record.ports.amqp),
    )
    return mapper, broker


def configuration(record: Record, definitions: Path | None) -> str:
    """`rabbitmq.conf`, with every limit said: the defaults differ between 3.10 and 4.x."""
    ports, admin = record.ports, record.endpoints.rabbit
    settings: dict[str, str | int] = {
        "listeners.tcp.1": f"{HOST}:{ports.amqp}",
        "management.tcp.ip": HOST,
        "management.tcp.port": ports.management,
        "stream.listeners.tcp.1": f"{HOST}:{ports.stream}",
        "stream.advertised_host": HOST,
        "stream.advertised_port": ports.stream,
        "prometheus.tcp.ip": HOST,
        "prometheus.tcp.port": ports.metrics,
        "default_user": admin.user,
        "default_pass": admin.password,
        "vm_memory_high_watermark.absolute": 1024 * _MIB,
        "disk_free_limit.absolute": 512 * _MIB,
        "max_message_size": _MIB,
        "consumer_timeout": _DAY_MS,
        "heartbeat": 30,
        "log.console": "true",
        "log.console.level": "info",
        "log.console.use_colors": "off",
        "log.file": "false",
    }
    if definitions:
        settings["load_definitions"] = str(definitions.resolve())
    return "".join(f"{key} = {value}\n" for key, value in settings.items())


def hasten_stop(root: Path) -> None:
    """Spare the node five idle seconds: 3.10 asks a supervisor that is already stopping for statistics.

    Fixed in RabbitMQ 3.13 (rabbitmq-server pull request 11070), where this changes nothing.
    """
    forget = "gen_event:delete_handler(rabbit_event, rabbit_mgmt_db_handler, [])."
    try:
        subprocess.run(  # noqa: S603 - a script we wrote
            (root / "rabbitmq" / "rabbitmqctl", "eval", forget), capture_output=True, timeout=5, check=False
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return  # it then stops more slowly, that is all


def write_files(home: Path, record: Record, definitions: Path | None) -> None:
    home.mkdir(parents=True, exist_ok=True)
    conf = home / "rabbitmq.conf"
    conf.touch(mode=0o600)
    conf.write_text(configuration(record, definitions))
    (home / "enabled_plugins").write_text(f"[{','.join(_PLUGINS)}].\n")
    (home / "advanced.config").write_text("[].\n")
    cookie = home / ".erlang.cookie"
    if not cookie.exists():
        cookie.touch(mode=0o600)
        cookie.write_text(record.passwords.cookie)
        cookie.chmod(0o400)


def _write_tool(binaries: Binaries, home: Path, env: Mapping[str, str]) -> None:
    """`rabbitmqctl` that knows this node, for stopping it and for whoever looks after it."""
    settings = shlex.join(f"{key}={value}" for key, value in env.items())
    real = shlex.quote(str(binaries.rabbitmq_server.with_name("rabbitmqctl")))
    tool = home / "rabbitmqctl"
    tool.write_text(f'#!/bin/sh\nexec env {settings} {real} "$@"\n')
    tool.chmod(0o700)


def _environment(binaries: Binaries, record: Record, home: Path) -> dict[str, str]:
    return {
        "PATH": os.pathsep.join([str(binaries.epmd.parent), os.environ.get("PATH", os.defpath)]),
        "LANG": "C.UTF-8",
        "HOME": str(home),
        "RUNNING_UNDER_SYSTEMD": "true",  # the script then becomes the broker instead of its parent
        "ERL_EPMD_PORT": str(record.ports.epmd),
        "ERL_EPMD_ADDRESS": HOST,
        "ERL_CRASH_DUMP": str(home / "erl_crash.dump"),
        "RABBITMQ_LOG": "-color",
        "RABBITMQ_NODENAME": "warren@localhost",
        "RABBITMQ_DIST_PORT": str(record.ports.distribution),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
            "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}"
        ),
        "RABBITMQ_CONF_ENV_FILE": os.devnull,  # the system's own settings are not for this node
        "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "advanced.config"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
        "RABBITMQ_GENERATED_CONFIG_DIR": str(home / "generated"),
        "RABBITMQ_PLUGINS_EXPAND_DIR": str(home / "plugins"),
        "RABBITMQ_MNESIA_BASE": str(home / "data"),
        "RABBITMQ_MNESIA_DIR": str(home / "data" / "node"),
        "RABBITMQ_LOG_BASE": str(home / "log"),
        "RABBITMQ_PID_FILE": str(home / "pid"),
    }


def _listens(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=1):
            return True
    except OSError:
        return False


def greets(port: int) -> bool:
    """Whether Connection.Start answers the AMQP header: the listener opens after the plugins."""
    try:
        with socket.create_connection((HOST, port), timeout=1) as connection:
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            return connection.recv(1) == b"\x01"
    except OSError:
        return False
