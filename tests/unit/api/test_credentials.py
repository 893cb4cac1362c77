"""What an Authorization header claims, and whether a password fits."""

import asyncio
from base64 import b64encode

from hypothesis import given
from hypothesis import strategies as st

from services.api.credentials import Login, Passwords, Token, digest, new_token, parse
from services.api.errors import Overloaded, Unauthenticated

ANA = Login("ana", "a secret")
NAMES = st.text(st.characters(exclude_characters=":\0", codec="utf-8"))
PASSWORDS = st.text(st.characters(codec="utf-8"), min_size=1)


@given(NAMES, PASSWORDS)
def test_basic_carries_a_name_and_a_password_that_may_have_colons(username: str, password: str) -> None:
    header = "Basic " + b64encode(f"{username}:{password}".encode()).decode()
    assert parse(header) == Login(username, password)


@given(st.text())
def test_any_header_is_a_claim_or_refused(header: str) -> None:
    try:
        claim = parse(header)
    except Unauthenticated:
        return
    assert isinstance(claim, Token | Login)


def test_neither_tokens_nor_passwords_show_in_a_log() -> None:
    assert "secret" not in repr(ANA)
    assert "secret" not in repr(Token("secret"))


def test_a_token_is_forty_hexadecimal_digits_and_kept_as_another_string() -> None:
    token = new_token()
    assert (len(bytes.fromhex(token)), digest(token) == token) == (20, False)


async def test_a_password_fits_only_its_own_hash() -> None:
    passwords = Passwords(verified_for_s=60)
    stored = await passwords.hash(ANA.password)
    assert stored.startswith("$argon2id$")
    assert await passwords.matches(ANA, stored)
    assert await passwords.matches(ANA, stored)  # remembered
    assert not await passwords.matches(Login("ana", "a guess"), stored)
    assert not await passwords.matches(ANA, await passwords.hash("another"))
    assert not await passwords.matches(ANA, None)
    assert not await passwords.matches(ANA, "no hash at all")


async def test_too_many_logins_at_once_are_asked_to_come_again() -> None:
    passwords = Passwords(verified_for_s=0)
    tries = [passwords.matches(Login("nobody", str(n)), None) for n in range(70)]
    found = await asyncio.gather(*tries, return_exceptions=True)
    assert [isinstance(one, Overloaded) for one in found].count(True) == 6
    assert not await passwords.matches(ANA, None)
