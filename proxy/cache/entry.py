"""A cached response, and its encoding: compressed, because responses are mostly text."""

import time
import zlib

import msgspec

from proxy.formats.neutral import Usage

COMPRESSION_LEVEL = 1
MAX_BODY_BYTES = 1024 * 1024
"""The largest body that is stored. Compressing more would block other requests for too long."""


class CachedResponse(msgspec.Struct, frozen=True):
    """A complete response as its client received it.

    `form` describes the kind of stream, and is empty for a non-streaming response (`key.form_of`). Times are
    Unix times in seconds. `usage` and `cost_nano` are those of the request that fetched it. `dropped` is the
    header that names dropped settings, or empty.
    """

    form: bytes
    content_type: str
    dropped: str
    body: bytes
    usage: Usage
    cost_nano: int
    created_at: float
    expires_at: float

    @property
    def age_s(self) -> int:
        """The whole seconds since the response was stored."""
        return max(int(time.time() - self.created_at), 0)

    @property
    def is_expired(self) -> bool:
        """True after the time to live."""
        return self.expires_at <= time.time()


encoder = msgspec.msgpack.Encoder()
decoder = msgspec.msgpack.Decoder(CachedResponse)


def encode(response: CachedResponse) -> bytes:
    """Encode and compress a response."""
    return zlib.compress(encoder.encode(response), COMPRESSION_LEVEL)


def decode(data: bytes) -> CachedResponse:
    """Decode a response."""
    return decoder.decode(zlib.decompress(data))
