"""Responses of gateway routes, and the writer that sends them to the client."""

import http
from typing import Any, Protocol

import msgspec

from proxy.http.asgi import Send

Headers = dict[str, str]

CONTROL_CHARACTERS: dict[int, None] = dict.fromkeys((*range(32), 127))
encode = msgspec.json.Encoder(decimal_format="number").encode


class Response:
    """A non-streaming response."""

    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def chunks(self) -> list[bytes]:
        """Return the body as one chunk."""
        return [self.body]

    async def send_to(self, send: Send) -> None:
        """Send the status, the headers and the body."""
        headers = encode_headers(self.headers)
        headers.append((b"content-length", str(len(self.body)).encode()))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": False})


class ChunkedResponse:
    """A stream whose chunks are all known."""

    def __init__(self, status: int, headers: Headers, chunks: list[bytes]) -> None:
        self.status, self.headers, self.chunks = status, headers, chunks

    async def send_to(self, send: Send) -> None:
        """Send the status, the headers and each chunk."""
        await send(
            {"type": "http.response.start", "status": self.status, "headers": encode_headers(self.headers)}
        )
        for chunk in self.chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class ResponseWriter(Protocol):
    """Writes the response to one request: one non-streaming response, or one stream in chunks.

    The response is not complete for the client before `finish`, so the request can be settled first.
    """

    def respond(self, response: Response | ChunkedResponse) -> None:
        """Keep a non-streaming response. `finish` sends it."""

    async def start_stream(self, status: int, headers: Headers) -> None:
        """Send the status and the headers of a stream."""

    async def write(self, chunk: bytes) -> None:
        """Send one chunk of the stream."""

    def abandon(self) -> None:
        """Do not end the stream.

        The server then closes the connection, so the client sees that data is missing.
        """

    async def finish(self, *, succeeded: bool) -> None:
        """Send the response that `respond` kept, or the end of the stream."""


class AsgiWriter:
    """Writes a response to the ASGI server."""

    def __init__(self, send: Send) -> None:
        self.send = send
        self.response: Response | ChunkedResponse | None = None
        self.has_started = self.is_streaming = False

    def respond(self, response: Response | ChunkedResponse) -> None:
        """Keep a response for `finish`.

        If a stream has already started, it is abandoned, because its status has been sent.
        """
        if self.has_started:
            self.abandon()
        else:
            self.response = response

    async def start_stream(self, status: int, headers: Headers) -> None:
        """Send the status and the headers of a stream."""
        self.has_started = self.is_streaming = True
        await self.send({"type": "http.response.start", "status": status, "headers": encode_headers(headers)})

    async def write(self, chunk: bytes) -> None:
        """Send one chunk of the stream."""
        await self.send({"type": "http.response.body", "body": chunk, "more_body": True})

    def abandon(self) -> None:
        """End the connection without the end of the stream."""
        self.is_streaming = False

    async def finish(self, *, succeeded: bool) -> None:
        """Send the response that `respond` kept, or the end of the stream."""
        if self.is_streaming:
            await self.send({"type": "http.response.body", "body": b"", "more_body": False})
        elif self.response is not None:
            self.has_started = True
            await self.response.send_to(self.send)


def json_response(status: int, headers: Headers, body: dict[str, Any]) -> Response:
    """Return a response whose body is `body` as JSON. Decimals become JSON numbers."""
    return Response(status, {**headers, "content-type": "application/json"}, encode(body))


def shutting_down_response(request_id: str) -> Response:
    """Return the 503 for a request that the stopping server cannot wait for.

    It is used if the request has no client format.
    """
    headers = {
        "content-type": "text/plain; charset=utf-8",
        "retry-after": "2",
        "cache-control": "no-store",
        "x-request-id": request_id,
        "x-gateway-error-type": "server_error",
    }
    text = b"The gateway was stopped before the response was complete. Try again in a moment.\n"
    return Response(503, headers, text)


def encode_headers(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Return headers as ASGI requires them.

    Control characters that clients and providers sent are removed.
    """
    return [
        (name.encode("latin-1"), value.translate(CONTROL_CHARACTERS).encode("latin-1", "replace"))
        for name, value in headers.items()
    ]


def render_response(response: Response, *, keep_alive: bool) -> bytes:
    """Return the bytes of a response."""
    status = http.HTTPStatus(response.status)
    headers = response.headers | {"content-length": str(len(response.body))}
    headers |= {} if keep_alive else {"connection": "close"}
    lines = [b"HTTP/1.1 %d %s" % (status, status.phrase.encode())]
    lines += [b"%s: %s" % header for header in encode_headers(headers)]
    return b"\r\n".join([*lines, b"", response.body])
