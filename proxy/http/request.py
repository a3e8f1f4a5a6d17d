"""Requests of gateway routes. A body is received only if the view asks for it, and up to a limit."""

from collections.abc import Callable, Iterator
from urllib.parse import parse_qs

from django.http import HttpRequest

from keys import tokens
from proxy.http.asgi import Receive, Scope
from proxy.http.content_coding import BodyTooLarge, content_codings, decode_body
from proxy.http.disconnect import ClientDisconnected, DisconnectWatcher

BEARER = "bearer"
KEY_HEADERS = (b"x-api-key", b"x-goog-api-key", b"api-key")
"""Headers of the SDKs of Anthropic, Google and Azure OpenAI."""


class GatewayRequest(HttpRequest):
    """A request whose body has not been received yet."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        # HttpRequest.__init__ creates several containers that no gateway route uses.
        self.scope = scope
        self.receive = receive
        self.path = self.path_info = scope["path"]
        self.method = scope["method"]
        self.raw_headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            self.raw_headers.setdefault(name, value)
        self.disconnect_watcher = DisconnectWatcher(receive)

    def header(self, name: bytes) -> str:
        """Return the first header of this lower-case name, or an empty string."""
        return self.raw_headers.get(name, b"").decode("latin-1")

    async def read_body(self, limit: int) -> bytes:
        """Receive the body, and decode its content codings.

        Raises UnsupportedCoding, CorruptBody, BodyTooLarge if the sent or the decoded body has more than
        `limit` bytes, and ClientDisconnected if the client disconnects before the end of the body.
        """
        is_coded = b"content-encoding" in self.raw_headers
        codings = content_codings(self.scope["headers"]) if is_coded else []
        parts: list[bytes] = []
        await self._receive_body(limit, parts.append)
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        return await decode_body(body, codings, limit) if codings else body

    async def discard_body(self, limit: int) -> None:
        """Receive the body without storing it. Raises the same exceptions as `read_body`."""
        await self._receive_body(limit, lambda _: None)

    async def _receive_body(self, limit: int, consume: Callable[[bytes], None]) -> None:
        # There is no timeout here: gateway_project/server.py closes connections on which a body stalls.
        length = self.header(b"content-length")
        if length.isdecimal() and int(length) > limit:
            raise BodyTooLarge
        size, more = 0, True
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnected
            size += len(message["body"])
            if size > limit:
                raise BodyTooLarge
            consume(message["body"])
            more = message["more_body"]


def extract_api_key(request: GatewayRequest) -> str:
    """Return the API key from any of the headers in which SDKs send it; empty if there is none.

    Some clients also send a key of another service, so a key with the gateway's prefix takes precedence.
    """
    first = ""
    for key in candidate_keys(request):
        if key.startswith(tokens.PREFIX):
            return key
        first = first or key
    return first


def candidate_keys(request: GatewayRequest) -> Iterator[str]:
    """Yield the values that may be an API key.

    In the Authorization header, a key is a bearer token, or a value without a scheme.
    """
    authorization = request.header(b"authorization").strip()
    scheme, _, rest = authorization.partition(" ")
    if scheme.lower() == BEARER:
        yield rest.strip()
    elif scheme.startswith(tokens.PREFIX):
        yield scheme
    for name in KEY_HEADERS:
        yield request.header(name).strip()
    query = request.scope["query_string"]
    if b"key=" in query:
        yield parse_qs(query.decode("latin-1")).get("key", [""])[0]
