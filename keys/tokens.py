"""The text of API keys, `sk-gw_<public id>_<secret><crc>`, and of access tokens, `pat_gw_...`.

The public id identifies the row in the database, and the secret authenticates the client. With the checksum,
the gateway rejects mistyped and invented keys without a query. The database contains only an HMAC of the
secret, whose key (the pepper) is not in the database.
"""

import hmac
import secrets
import string
from dataclasses import dataclass
from functools import lru_cache
from zlib import crc32

PREFIX = "sk-gw_"
ACCESS_TOKEN_PREFIX = "pat_gw_"
OWN_PREFIXES = (PREFIX, ACCESS_TOKEN_PREFIX)
"""Prefixes of the gateway's own secrets, which no provider may receive."""
ALPHABET = string.ascii_letters + string.digits
PUBLIC_ID_LENGTH = 12
SECRET_LENGTH = 32
CHECKSUM_LENGTH = 6
PEPPER_ID_LENGTH = 8
LENGTH_WITHOUT_PREFIX = PUBLIC_ID_LENGTH + 1 + SECRET_LENGTH + CHECKSUM_LENGTH
TOKEN_LENGTH = len(PREFIX) + LENGTH_WITHOUT_PREFIX


@dataclass(frozen=True, slots=True)
class Token:
    public_id: str
    secret: str
    prefix: str = PREFIX

    @classmethod
    def generate(cls, prefix: str = PREFIX) -> "Token":
        return cls(random_text(PUBLIC_ID_LENGTH), random_text(SECRET_LENGTH), prefix)

    def __str__(self) -> str:
        body = f"{self.prefix}{self.public_id}_{self.secret}"
        return body + checksum(body)

    def digest(self, pepper: str) -> str:
        return hmac.digest(pepper.encode(), self.secret.encode(), "sha256").hex()


def parse(text: str, prefix: str = PREFIX) -> Token | None:
    """Return the public id and the secret of a well-formed key, or None for any other text."""
    if len(text) != len(prefix) + LENGTH_WITHOUT_PREFIX or not text.startswith(prefix) or not text.isascii():
        return None
    body = text[:-CHECKSUM_LENGTH]
    public_id, separator, secret = body[len(prefix) :].partition("_")
    if not separator or len(public_id) != PUBLIC_ID_LENGTH or checksum(body) != text[-CHECKSUM_LENGTH:]:
        return None
    return Token(public_id, secret, prefix)


@lru_cache(maxsize=16)
def pepper_id(pepper: str) -> str:
    """Return a text that identifies a pepper without disclosing it."""
    return hmac.digest(pepper.encode(), b"id of the pepper", "sha256").hex()[:PEPPER_ID_LENGTH]


def random_text(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def checksum(body: str) -> str:
    """Return the CRC-32 of a text in base 62, padded to CHECKSUM_LENGTH characters."""
    number, text = crc32(body.encode()), ""
    while len(text) < CHECKSUM_LENGTH:
        number, digit = divmod(number, len(ALPHABET))
        text = ALPHABET[digit] + text
    return text
