"""Signatures of the scripted provider, which verifies that clients send them back unchanged."""

import base64
import binascii
import hashlib
import hmac

SECRET = b"strict-provider"
MAC_BYTES = 16
GEMINI_PLACEHOLDERS = ("skip_thought_signature_validator", "context_engineering_is_the_way_to_go")
"""Signatures that Gemini 3 accepts for calls of other models.

Source: ai.google.dev/gemini-api/docs/thought-signatures.
"""


def sign(kind: str, payload: str) -> str:
    """Return a signature that contains `payload`. `kind` distinguishes different uses."""
    data = f"{kind}:{payload}".encode()
    return base64.b64encode(mac(data) + data).decode()


def signed_payload(kind: str, signature: object) -> str | None:
    """Return the payload of a signature that this provider issued for `kind`, or None."""
    if not isinstance(signature, str):
        return None
    try:
        raw = base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        return None
    data, prefix = raw[MAC_BYTES:], f"{kind}:".encode()
    is_ours = hmac.compare_digest(mac(data), raw[:MAC_BYTES]) and data.startswith(prefix)
    return data.removeprefix(prefix).decode() if is_ours else None


def mac(data: bytes) -> bytes:
    return hmac.new(SECRET, data, hashlib.sha256).digest()[:MAC_BYTES]
