"""Encryption at rest of secrets that the gateway must read again, for providers and webhooks.

Secrets are encrypted with the first key of GATEWAY_ENCRYPTION_KEYS, and decrypted with any of the keys. To
rotate keys, put a new key first and run `rotate_credentials`. Each ciphertext contains the id of its project,
so that it cannot be copied to another project.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from functools import lru_cache

import msgspec
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings

PROJECT_ID_BYTES = 8


class SealedSecret(msgspec.Struct, frozen=True):
    project_id: int
    secret: str


class DecryptionError(Exception):
    """Raised if no encryption key can decrypt a secret, or if the secret belongs to another project."""


@lru_cache(maxsize=1)
def fernet() -> MultiFernet:
    return MultiFernet([Fernet(key) for key in settings.ENV.gateway_encryption_keys])


def seal(project_id: int, secret: str) -> str:
    return fernet().encrypt(msgspec.json.encode(SealedSecret(project_id, secret))).decode()


def unseal(project_id: int, ciphertext: str) -> str:
    """Decrypt a secret. Raises DecryptionError."""
    try:
        sealed = msgspec.json.decode(fernet().decrypt(ciphertext.encode()), type=SealedSecret)
    except InvalidToken:
        raise DecryptionError("no encryption key opens this secret") from None
    if sealed.project_id != project_id:
        raise DecryptionError("this secret was sealed for another project")
    return sealed.secret


def rotate(ciphertext: str) -> str:
    """Encrypt the same secret with the first key, and return the new ciphertext. Raises DecryptionError."""
    try:
        return fernet().rotate(ciphertext.encode()).decode()
    except InvalidToken:
        raise DecryptionError("no encryption key opens this secret") from None


def seal_bytes(project_id: int, data: bytes) -> bytes:
    """Encrypt data that may be large.

    The result is binary, so it takes less space than the result of `seal`.
    """
    return urlsafe_b64decode(fernet().encrypt(project_id.to_bytes(PROJECT_ID_BYTES, "big") + data))


def unseal_bytes(project_id: int, sealed: bytes) -> bytes:
    """Decrypt data that `seal_bytes` encrypted. Raises DecryptionError."""
    try:
        data = fernet().decrypt(urlsafe_b64encode(sealed))
    except InvalidToken:
        raise DecryptionError("no encryption key opens this data") from None
    if int.from_bytes(data[:PROJECT_ID_BYTES], "big") != project_id:
        raise DecryptionError("this data was sealed for another project")
    return data[PROJECT_ID_BYTES:]


def rotate_bytes(sealed: bytes) -> bytes:
    """Encrypt the same data with the first key. Raises DecryptionError."""
    return urlsafe_b64decode(rotate(urlsafe_b64encode(sealed).decode()))
