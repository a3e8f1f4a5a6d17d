"""The body of a log entry: the prompt and the response of one request, compressed and encrypted."""

import zlib
from typing import Any

import msgspec

from projects import vault

COMPRESSION_LEVEL = 1

encode = msgspec.json.Encoder().encode


class LoggedBody(msgspec.Struct, omit_defaults=True):
    """The redacted prompt and response of a request.

    `prompt` and `response` are the first characters of the newest message and of the response. In the mode
    `full`, `request_body` is the client's body, and `response_body` the response: as JSON, or the text of a
    stream. `is_interrupted` is true if the stream failed.
    """

    prompt: str = ""
    response: str = ""
    request_body: Any = None
    response_body: Any = None
    is_interrupted: bool = False

    @property
    def request_text(self) -> str:
        """The client's body as indented JSON."""
        return indented(self.request_body)

    @property
    def response_text(self) -> str:
        """The response as indented JSON, or the text of a stream."""
        return indented(self.response_body)

    def seal(self, project_id: int) -> bytes:
        """Compress and encrypt the body for its project."""
        return vault.seal_bytes(project_id, zlib.compress(encode(self), COMPRESSION_LEVEL))


def indented(value: Any) -> str:
    """Return a text unchanged, and another JSON value with indentation."""
    return value if isinstance(value, str) else msgspec.json.format(encode(value), indent=2).decode()


decode_body = msgspec.json.Decoder(LoggedBody).decode


def unseal_body(project_id: int, sealed: bytes) -> LoggedBody:
    """Decrypt and decompress a body. Raises vault.DecryptionError."""
    return decode_body(zlib.decompress(vault.unseal_bytes(project_id, sealed)))
