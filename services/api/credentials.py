"""Passwords and tokens: made, kept as digests, and recognised."""

import asyncio
import hashlib
import secrets
import time
from base64 import b64decode
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from services.api.errors import Overloaded, Unauthenticated

_AT_ONCE = 2  # argon2 takes 19 MiB and a core each
_MAX_WAITING = 64
_MAX_REMEMBERED = 10_000
_LOGIN_HINT = "send `Authorization: Token <token>`, or Basic with user and password"


@dataclass(frozen=True, slots=True)
class Token:
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Login:
    username: str
    password: str = field(repr=False)


def parse(header: str | None) -> Token | Login:
    """What an `Authorization` header claims.  Basic with an empty password carries a token as user name."""
    scheme, _, value = (header or "").partition(" ")
    match scheme.lower(), value.strip():
        case "token", token if token:
            return Token(token)
        case "basic", encoded if encoded:
            username, password = _decoded(encoded)
            return Login(username, password) if password else Token(username)
        case _:
            raise Unauthenticated(f"authentication credentials were not provided: {_LOGIN_HINT}")


def _decoded(encoded: str) -> tuple[str, str]:
    try:
        username, colon, password = b64decode(encoded, validate=True).decode().partition(":")
    except ValueError:
        colon = ""
    if not colon or "\0" in username:
        raise Unauthenticated("the Basic credentials are not base64 of user:password")
    return username, password


def new_token() -> str:
    return secrets.token_hex(20)


def new_password() -> str:
    return secrets.token_urlsafe(32)


def digest(token: str) -> str:
    """How a token is kept: it is random, so a plain hash of it gives nothing away."""
    return hashlib.sha256(token.encode()).hexdigest()


class Passwords:
    """Argon2id off the event loop, few at a time, and not again for what was verified lately.

    A verified login is remembered together with the stored hash it matched, so a changed password counts at
    once, whichever process changed it.
    """

    def __init__(self, verified_for_s: float) -> None:
        self._hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
        self._decoy = self._hasher.hash(new_password())
        self._gate = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0
        self._verified_for_s = verified_for_s
        self._verified: OrderedDict[bytes, tuple[str, float]] = OrderedDict()
        self._key = secrets.token_bytes(32)

    async def hash(self, password: str) -> str:
        async with self._turn():
            return await asyncio.to_thread(self._hasher.hash, password)

    async def matches(self, login: Login, stored: str | None) -> bool:
        """For a user who does not exist `stored` is None; the answer takes as long."""
        key = self._remembered_as(login)
        if stored is not None and self._was_verified(key, stored):
            return True
        async with self._turn():
            if not await asyncio.to_thread(self._verify, stored or self._decoy, login.password):
                return False
        if stored is None:
            return False
        self._remember(key, stored)
        return True

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """A place in the queue for argon2; who comes when it is full is told to come again."""
        if self._waiting >= _MAX_WAITING:
            raise Overloaded("too many logins at once; try again soon, or use a token")
        self._waiting += 1
        try:
            async with self._gate:
                yield
        finally:
            self._waiting -= 1

    def _verify(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False

    def _was_verified(self, key: bytes, stored: str) -> bool:
        matched, until = self._verified.get(key, ("", 0.0))
        return secrets.compare_digest(matched, stored) and time.monotonic() < until

    def _remember(self, key: bytes, stored: str) -> None:
        self._verified[key] = (stored, time.monotonic() + self._verified_for_s)
        while len(self._verified) > _MAX_REMEMBERED:
            self._verified.popitem(last=False)

    def _remembered_as(self, login: Login) -> bytes:
        """Keyed by a secret of this process: a dump of the memory is no list of fast hashes."""
        told = f"{login.username}\0{login.password}".encode()
        return hashlib.blake2b(told, key=self._key).digest()
