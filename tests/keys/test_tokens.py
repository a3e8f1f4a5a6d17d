"""Text of an API key: how it is generated, parsed and verified."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys.authentication import AuthenticationFailed, authenticate
from keys.models import ApiKey
from keys.tokens import ALPHABET, SECRET_LENGTH, TOKEN_LENGTH, Token, parse


def test_a_generated_token_is_parsed() -> None:
    token = Token.generate()
    assert len(str(token)) == TOKEN_LENGTH
    assert parse(str(token)) == token


def test_generated_tokens_differ() -> None:
    assert len({str(Token.generate()) for _ in range(100)}) == 100


@given(st.integers(0, TOKEN_LENGTH - 1), st.sampled_from(ALPHABET + "_-"))
def test_a_wrong_character_is_detected(position: int, character: str) -> None:
    text = str(Token.generate())
    changed = text[:position] + character + text[position + 1 :]
    assert parse(changed) is None or changed == text


@given(st.text(max_size=2 * TOKEN_LENGTH))
def test_it_rejects_any_other_text(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize(
    "damage", [lambda text: text[:-1], lambda text: text + "0", str.upper, lambda text: f" {text[1:]}"]
)
def test_it_rejects_a_truncated_or_changed_token(damage: Callable[[str], str]) -> None:
    assert parse(damage(str(Token.generate()))) is None


def test_a_digest_depends_on_the_pepper_and_does_not_contain_the_secret() -> None:
    token = Token.generate()
    assert token.digest("one") == token.digest("one") != token.digest("other")
    assert token.secret not in token.digest("one")


@pytest.mark.django_db(transaction=True)
def test_another_secret_with_the_same_public_id_is_rejected(key: ApiKey) -> None:
    """The checksum and the public id are right; only the HMAC differs."""
    forged = Token(key.public_id, "x" * SECRET_LENGTH)
    assert parse(str(forged)) == forged
    with pytest.raises(AuthenticationFailed):
        asyncio.run(authenticate(str(forged), lambda: "127.0.0.1"))
