"""Encryption at rest of secrets that must be read again: those of providers and of webhooks.

The first key of GATEWAY_ENCRYPTION_KEYS encrypts, all of them decrypt, so that keys are rotated by putting a new one in
front and running `rotate_credentials`. The project's id is inside the ciphertext: moved to another project, it is refused.
"""

from functools import lru_cache

import msgspec
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings


class SealedSecret(msgspec.Struct, frozen=True):
    project_id: int
    secret: str


class DecryptionError(Exception):
    """No key of ours opens this secret, or it was sealed for another project."""


@lru_cache(maxsize=1)
def fernet() -> MultiFernet:
    return MultiFernet([Fernet(key) for key in settings.ENV.gateway_encryption_keys])


def seal(project_id: int, secret: str) -> str:
    return fernet().encrypt(msgspec.json.encode(SealedSecret(project_id, secret))).decode()


def unseal(project_id: int, ciphertext: str) -> str:
    """The secret; raises Undecipherable."""
    try:
        sealed = msgspec.json.decode(fernet().decrypt(ciphertext.encode()), type=SealedSecret)
    except InvalidToken:
        raise DecryptionError("no encryption key opens this secret") from None
    if sealed.project_id != project_id:
        raise DecryptionError("this secret was sealed for another project")
    return sealed.secret


def rotate(ciphertext: str) -> str:
    """The same secret under the first key; raises Undecipherable."""
    try:
        return fernet().rotate(ciphertext.encode()).decode()
    except InvalidToken:
        raise DecryptionError("no encryption key opens this secret") from None
