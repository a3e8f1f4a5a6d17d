"""Encryption at rest of secrets that must be read again: those of providers and of webhooks.

The first key of GATEWAY_ENCRYPTION_KEYS encrypts, and all of them decrypt. To rotate keys, put a new one in
front and run `rotate_credentials`. The ciphertext contains the project's id, so it cannot be used in another
project.
"""

from functools import lru_cache

import msgspec
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings


class SealedSecret(msgspec.Struct, frozen=True):
    project_id: int
    secret: str


class DecryptionError(Exception):
    """Raised if no encryption key opens a secret, or if it belongs to another project."""


@lru_cache(maxsize=1)
def fernet() -> MultiFernet:
    return MultiFernet([Fernet(key) for key in settings.ENV.gateway_encryption_keys])


def seal(project_id: int, secret: str) -> str:
    return fernet().encrypt(msgspec.json.encode(SealedSecret(project_id, secret))).decode()


def unseal(project_id: int, ciphertext: str) -> str:
    """Return the secret; raise DecryptionError."""
    try:
        sealed = msgspec.json.decode(fernet().decrypt(ciphertext.encode()), type=SealedSecret)
    except InvalidToken:
        raise DecryptionError("no encryption key opens this secret") from None
    if sealed.project_id != project_id:
        raise DecryptionError("this secret was sealed for another project")
    return sealed.secret


def rotate(ciphertext: str) -> str:
    """Return the same secret encrypted with the first key; raise DecryptionError."""
    try:
        return fernet().rotate(ciphertext.encode()).decode()
    except InvalidToken:
        raise DecryptionError("no encryption key opens this secret") from None
