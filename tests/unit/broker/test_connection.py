"""Settings, waits, errors of dead channels and supervised loops, without a broker."""

import asyncio
from itertools import islice

import pytest
from aiormq.exceptions import ChannelInvalidStateError, ConnectionClosed
from pydantic import ValidationError

from infra.broker import supervise as supervision
from infra.broker.backoff import jittered
from infra.broker.connection import guarded
from infra.broker.errors import ChannelDied
from infra.broker.settings import BrokerSettings
from infra.broker.supervise import supervise


def settings(url: str, **files: str) -> BrokerSettings:
    return BrokerSettings.model_validate({"url": url, **files})


def test_a_url_says_who_goes_where() -> None:
    made = settings("amqp://ana:pa%2Fss@broker:5673/a%2Fb")
    assert (made.login, made.vhost) == ("ana", "a/b")
    assert made.place == "broker:5673 (virtual host a/b)"
    assert "ss" not in repr(made)
    assert made.connection_url("x").query == {"heartbeat": "10", "name": "x"}


@pytest.mark.parametrize(
    "url", ["http://a:b@broker/v", "broker", "amqp://broker/v", "amqp://a:b@/v", "amqp://a:b@broker:port/v"]
)
def test_a_url_that_cannot_work_is_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        settings(url)


def test_a_certificate_is_the_login_over_tls_and_nonsense_without() -> None:
    made = settings("amqps://ana@broker/v", certificate_file="site.pem", key_file="site.key")
    assert made.connection_url("x").query["auth"] == "EXTERNAL"
    with pytest.raises(ValidationError, match="amqps"):
        settings("amqp://ana@broker/v", certificate_file="site.pem")


def test_waits_grow_to_a_cap_and_are_never_alike() -> None:
    waits = list(islice(jittered(1, 8), 6))
    for wait, longest in zip(waits, (1, 2, 4, 8, 8, 8), strict=True):
        assert longest / 2 <= wait <= longest


@pytest.mark.parametrize(
    "thrown",
    [asyncio.CancelledError(), ChannelInvalidStateError("closed"), ConnectionClosed(320, "bye"), Exception()],
)
async def test_whatever_a_dead_channel_throws_is_its_death(thrown: BaseException) -> None:
    with pytest.raises(ChannelDied), guarded():
        raise thrown


async def test_a_task_that_is_cancelled_is_cancelled() -> None:
    async def wait() -> None:
        with guarded():
            await asyncio.sleep(60)

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_our_own_mistakes_are_not_the_channels() -> None:
    with pytest.raises(KeyError), guarded():
        raise KeyError("x")


async def test_a_loop_that_ends_fails_or_is_cancelled_from_within_runs_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervision, "jittered", lambda: jittered(0.001, 0.001))
    ends: list[BaseException | None] = [None, OSError("x"), asyncio.CancelledError(), ChannelDied("y")]
    ran_on = asyncio.Event()

    async def loop() -> None:
        if not ends:
            ran_on.set()
            await asyncio.sleep(60)
        elif (error := ends.pop(0)) is not None:
            raise error

    task = asyncio.create_task(supervise("test", loop))
    await asyncio.wait_for(ran_on.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
