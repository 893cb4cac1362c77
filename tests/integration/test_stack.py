"""The local stack on real servers: it starts, survives, remembers and leaves nothing behind."""

import asyncio
import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.request import urlopen

import aio_pika
import asyncpg
import pytest
from minio import Minio

from infra.stack import processes
from infra.stack.record import Endpoints, PostgresAddress, S3Address
from infra.stack.stack import SERVERS, Stack

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory of a stack that may be stopped and killed; nothing of it is left afterwards."""
    root = tmp_path_factory.mktemp("stack-of-our-own")
    stack = Stack.start(root)
    try:
        yield root
    finally:
        stack.stop()
    until(lambda: not processes_of(root))


async def test_all_three_servers_accept_the_recorded_logins(stack: Endpoints) -> None:
    await keep(stack, "hello")
    assert await kept(stack) == ["hello"] * 3


def test_the_broker_has_the_plugins_the_platform_needs(stack: Endpoints) -> None:
    with urlopen(f"http://{stack.rabbit.host}:{stack.rabbit.metrics_port}/metrics", timeout=5) as page:
        assert b"rabbitmq_identity_info" in page.read()


async def test_a_restart_keeps_addresses_and_data(home: Path) -> None:
    before = Stack.start(home)
    await keep(before.endpoints, "restart")
    before.stop()
    assert before.running() == dict.fromkeys(SERVERS, False)
    after = Stack.start(home)
    assert after.endpoints == before.endpoints
    assert await kept(after.endpoints) == ["restart"] * 3


@pytest.mark.parametrize("server", SERVERS)
async def test_a_killed_server_is_started_again_with_its_data(home: Path, server: str) -> None:
    stack = Stack.start(home)
    await keep(stack.endpoints, server)
    kill(server, home)
    again = Stack.start(home)
    assert again.running() == dict.fromkeys(SERVERS, True)
    assert await kept(again.endpoints) == [server] * 3


async def test_servers_that_die_while_another_is_started_are_started_too(home: Path) -> None:
    stack = Stack.start(home)
    await keep(stack.endpoints, "chain")
    kill("rabbitmq", home)
    until(lambda: not processes.is_running("rabbitmq", home))  # one that is dying would cost the first try
    with ThreadPoolExecutor() as other:
        killing = other.submit(kill_while_the_broker_boots, home)
        again = Stack.start(home)
        killing.result()
    assert again.running() == dict.fromkeys(SERVERS, True)
    assert await kept(again.endpoints) == ["chain"] * 3


async def test_a_database_killed_in_the_middle_of_a_query_is_started_again(home: Path) -> None:
    stack = Stack.start(home)
    query = asyncio.create_task(sql(stack.endpoints.postgres, "SELECT count(*) FROM generate_series(1, 1e9)"))
    await asyncio.sleep(0.5)  # it must be at work when its server dies
    kill("postgres", home)
    Stack.start(home)
    with pytest.raises(asyncpg.ConnectionDoesNotExistError):
        await query
    assert await sql(stack.endpoints.postgres, "SELECT 1") == "1"


def test_starting_a_running_stack_changes_nothing_and_leaving_it_stops_nothing(home: Path) -> None:
    first = Stack.start(home)
    before = [processes.running(name, home) for name in SERVERS]
    with Stack.start(home) as second:
        assert second.endpoints == first.endpoints
    assert [processes.running(name, home) for name in SERVERS] == before


def test_an_error_inside_the_context_leaves_no_process(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Stack.start(tmp_path):
        raise ZeroDivisionError
    until(lambda: not processes_of(tmp_path))


def test_a_killed_runner_takes_its_servers_along(tmp_path: Path) -> None:
    runner = starter(tmp_path, "Stack.start(Path(sys.argv[1])); print('up', flush=True); time.sleep(60)")
    assert runner.stdout
    assert runner.stdout.readline() == "up\n"
    runner.kill()
    runner.communicate()
    until(lambda: not processes_of(tmp_path))


def test_a_detached_stack_outlives_the_command_that_started_it(tmp_path: Path) -> None:
    command = starter(tmp_path, "Stack.start(Path(sys.argv[1]), detached=True)")
    assert command.communicate() == ("", "")
    stack = Stack.find(tmp_path)
    assert stack
    assert stack.running() == dict.fromkeys(SERVERS, True)
    stack.stop()
    until(lambda: not processes_of(tmp_path))


def test_a_directory_without_a_stack_has_none(tmp_path: Path) -> None:
    assert Stack.find(tmp_path) is None


def kill(server: str, home: Path) -> None:
    mark = processes.running(server, home)
    assert mark
    os.kill(mark.pid, signal.SIGKILL)


def kill_while_the_broker_boots(home: Path) -> None:
    until(lambda: processes.is_running("rabbitmq", home))
    time.sleep(0.5)  # the others are found running meanwhile; the broker needs longer
    for server in ("postgres", "s3"):
        kill(server, home)


async def keep(endpoints: Endpoints, word: str) -> None:
    """Leave the word in all three servers, instead of what was there."""
    async with await aio_pika.connect(endpoints.rabbit.url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("kept", durable=True)
        await queue.purge()
        message = aio_pika.Message(word.encode(), delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, queue.name)
    await sql(endpoints.postgres, "CREATE TABLE IF NOT EXISTS kept (word text); TRUNCATE kept")
    await sql(endpoints.postgres, f"INSERT INTO kept VALUES ('{word}')")
    s3(endpoints.s3).put_object(endpoints.s3.bucket, "kept", io.BytesIO(word.encode()), len(word))


async def kept(endpoints: Endpoints) -> list[str]:
    async with await aio_pika.connect(endpoints.rabbit.url) as connection:
        queue = await (await connection.channel()).get_queue("kept")
        message = await queue.get()
        await message.reject(requeue=True)
    row = await sql(endpoints.postgres, "SELECT word FROM kept")
    answer = s3(endpoints.s3).get_object(endpoints.s3.bucket, "kept")
    with contextlib.closing(answer):
        stored = answer.read().decode()
    answer.release_conn()
    return [message.body.decode(), row, stored]


async def sql(address: PostgresAddress, statement: str) -> str:
    connection = await asyncpg.connect(address.url.replace("+asyncpg", ""))
    try:
        if statement.startswith("SELECT"):
            return str(await connection.fetchval(statement))
        return str(await connection.execute(statement))
    finally:
        await connection.close()


def s3(address: S3Address) -> Minio:
    return Minio(address.endpoint, address.access_key, address.secret_key, secure=False)


def starter(root: Path, code: str) -> subprocess.Popen[str]:
    imports = "import sys, time; from pathlib import Path; from infra.stack.stack import Stack; "
    return subprocess.Popen(
        [sys.executable, "-c", imports + code, str(root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def processes_of(root: Path) -> list[str]:
    """Everything alive that was started with this directory among its arguments or variables."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            started_with = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            if bytes(root) in started_with and int(process.name) != os.getpid():
                found.append(started_with.replace(b"\0", b" ")[:80].decode())
    return found


def until(is_true: Callable[[], object]) -> None:
    """Processes send no event when they end, so we look again and again."""
    deadline = time.monotonic() + 15
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.05)
