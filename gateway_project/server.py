"""The HTTP server: uvicorn with limits for headers and bodies, and with a graceful shutdown."""

import asyncio
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

import uvicorn
from django.conf import settings
from httptools import HttpParserUpgrade, HttpRequestParser, parse_url
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from gateway_project.lifespan import tune_gc
from proxy import telemetry
from proxy.endpoints import overload
from proxy.http.handler import resolve_route
from proxy.http.load_shedder import load_shedder
from proxy.http.responses import Response, render_response
from proxy.runtime import runtime

KEEPALIVE_S = 75
"""How long idle connections stay open. Load balancers close them first, usually after 60 s."""
SHUTDOWN_TIMEOUT_S = settings.ENV.gateway_shutdown_timeout_s
HEADER_TIMEOUT_S = 30
"""How long the headers of a request may take.

For the first request of a connection, the time starts when the connection opens; for later requests, when
their first bytes arrive.
"""
WRITE_BUFFER_BYTES = 32 * 1024
"""A response waits while its client has more unread bytes than this in the buffer of the connection.

One more chunk may be added to the buffer before the response waits.
"""
BODY_IDLE_TIMEOUT_S = 30
"""Maximum pause within a request body, so that unauthenticated clients cannot keep connections open."""
MAX_HEADER_BYTES = settings.ENV.gateway_max_header_bytes
MAX_HEADER_COUNT = settings.ENV.gateway_max_header_count
TOO_MANY_BYTES = "Too many header bytes."
SWITCHING_PROTOCOLS = 101
BAD_HANDSHAKE = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
URL_WITHOUT_PATH = re.compile(rb"\A(https?://[^/?#]*)(?=[?#]|\Z)", re.IGNORECASE)
FLUSH_TIMEOUT_S = 0.5
"""How long a stopping process waits for its connections to close, after its requests are settled."""
FLUSH_POLL_INTERVAL_S = 0.02
IDLE_GRACE_S = 1.0
"""How long a stopping process keeps idle connections open, after it has stopped to accept new ones."""
CLOSE_AFTER_RESPONSE = (b"connection", b"close")
"""Header of responses of a stopping process: the client sends its next request to another one."""


class OfferIgnoringParser:
    """Wraps httptools' parser for a server that ignores upgrade offers (RFC 9110, section 7.8).

    After headers with an offer, httptools treats all further bytes as those of the other protocol, and the
    body would be lost. This class therefore parses the headers again without the offer, and then the body.
    """

    def __init__(self, protocol: "LimitedProtocol") -> None:
        self.protocol = protocol
        self.start_parser()

    def start_parser(self) -> None:
        """Create a new parser that is as lenient as uvicorn's."""
        self.parser = HttpRequestParser(self.protocol)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)

    def feed_data(self, data: bytes | memoryview) -> None:
        """Parse received bytes. Raises HttpParserUpgrade only for a WebSocket handshake."""
        while True:
            try:
                self.parser.feed_data(data)
                return
            except HttpParserUpgrade as offer:
                if not self.protocol.ignores_offer():
                    raise
                data = memoryview(data)[offer.args[0] :]
            headers = self.protocol.headers_without_offer()
            self.start_parser()
            self.parser.feed_data(headers)

    def get_method(self) -> bytes:
        return self.parser.get_method()

    def get_http_version(self) -> str:
        return self.parser.get_http_version()

    def should_keep_alive(self) -> bool:
        return self.parser.should_keep_alive()

    def should_upgrade(self) -> bool:
        return self.parser.should_upgrade()


class Http10Cycle(RequestResponseCycle):
    """Sends a response to an HTTP/1.0 client.

    Such a client does not support chunked encoding, so the end of the connection marks the end of a body
    without a length.
    """

    ends_connection = False

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.ends_connection = all(name != b"content-length" for name, _ in message.get("headers", ()))
            self.chunked_encoding = False if self.ends_connection else None
        elif self.ends_connection:
            self.expected_content_length = len(message.get("body", b""))
        await super().send(message)


class RefusedCycle:
    """The state of a connection whose last request was refused: its response is complete."""

    response_complete = True

    def __init__(self) -> None:
        self.message_event = asyncio.Event()


class LimitedProtocol(HttpToolsProtocol):
    """Rejects requests with too many header fields or bytes while they are still arriving.

    httptools has no such limits. It reports a header field only when the field is complete. `header_bytes` is
    the size of the URL and of the fields that httptools has reported. `received_bytes` counts bytes as they
    arrive, so that a field that is not complete counts too.
    `offer` is the upgrade offer that was removed from a request before it is parsed again.
    """

    offer = b""
    header_bytes = received_bytes = 0
    messages_begun = 0
    in_headers = in_body = False
    rejection_reason = ""
    deadline: asyncio.TimerHandle | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.parser = OfferIgnoringParser(self)  # type: ignore[assignment]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self.set_deadline(HEADER_TIMEOUT_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self.set_deadline(None)
        super().connection_lost(exc)

    def set_deadline(self, seconds: float | None) -> None:
        """Close the connection after this time, unless the deadline is set again. None removes it."""
        if self.deadline is not None:
            self.deadline.cancel()
        self.deadline = None if seconds is None else self.loop.call_later(seconds, self.transport.close)

    def data_received(self, data: bytes) -> None:
        expected_begins = None if self.in_body else 0 if self.in_headers else 1
        self.messages_begun = 0
        super().data_received(data)
        if self.in_headers:
            # Data that also contains the end of an earlier request is not added to `received_bytes`. The
            # header fields in it that the parser reports are still added to `header_bytes`.
            self.on_header_bytes(len(data) if self.messages_begun == expected_begins else 0)
        elif self.in_body:
            self.set_deadline(BODY_IDLE_TIMEOUT_S)

    def on_header_bytes(self, size: int) -> None:
        if self.deadline is None:
            self.set_deadline(HEADER_TIMEOUT_S)
        self.received_bytes += size
        if self.received_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
            self.send_400_response(TOO_MANY_BYTES)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.header_bytes, self.received_bytes, self.in_headers = 0, 0, True
        self.messages_begun += 1

    def on_message_complete(self) -> None:
        if self.ignores_offer():
            return
        self.in_body = False
        self.set_deadline(None)
        super().on_message_complete()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self.count_header_bytes(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self.count_header_bytes(len(name) + len(value) + len(b":\r\n"))
        if len(self.headers) > MAX_HEADER_COUNT:
            self.stop_parsing("Too many header fields.")

    def count_header_bytes(self, size: int) -> None:
        self.header_bytes += size
        if self.header_bytes > MAX_HEADER_BYTES:
            self.stop_parsing(TOO_MANY_BYTES)

    def stop_parsing(self, reason: str) -> None:
        """Raise an error, after which uvicorn responds with 400 and closes the connection."""
        self.rejection_reason = reason
        raise ValueError(reason)

    def on_headers_complete(self) -> None:
        if self.ignores_offer():
            return
        if self.offer:
            # The application needs the offer, to reject clients that only accept another protocol (426).
            self.headers.append((b"upgrade", self.offer))
            self.offer = b""
        self.url = URL_WITHOUT_PATH.sub(rb"\1/", self.url, count=1)
        if load_shedder.is_loaded and (response := self.shed()):
            self.refuse(response)
        else:
            super().on_headers_complete()
            if self.scope["http_version"] == "1.0":
                self.cycle.__class__ = Http10Cycle
        self.in_headers, self.in_body = False, True
        self.set_deadline(None)

    def shed(self) -> Response | None:
        """Return a 503 if the request must be shed. A pipelined request is shed later, by its view."""
        if self.cycle is not None and not self.cycle.response_complete:
            return None
        url = parse_url(self.url)
        path = unquote(url.path.decode("ascii"))
        return overload.shed(self.parser.get_method().decode(), path, url.query or b"", self.headers)

    def refuse(self, response: Response) -> None:
        """Send a response without a task for it. The body of the request is discarded while it arrives.

        The connection stays open, unless the client waits for `100 Continue`, because it may then send no
        body.
        """
        keep_alive = (
            self.parser.should_keep_alive()
            and self.parser.get_http_version() == "1.1"
            and not self.expect_100_continue
        )
        self.cycle = RefusedCycle()  # type: ignore[assignment]
        self.transport.write(render_response(response, keep_alive=keep_alive))
        self.on_response_complete()
        if not keep_alive:
            self.transport.close()

    def ignores_offer(self) -> bool:
        """Return whether the request offers another protocol, and the server ignores the offer."""
        offers = self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"
        return offers and not self._should_upgrade()

    def _should_upgrade(self) -> bool:
        """Return whether to switch to WebSocket. Gateway routes do not support WebSocket."""
        parser = self.parser
        if (parser.get_method(), parser.get_http_version()) != (b"GET", "1.1"):
            return False
        path = parse_url(self.url).path or b"/"
        return super()._should_upgrade() and resolve_route(unquote(path.decode("ascii"))) is None

    def headers_without_offer(self) -> bytes:
        """Return the request line and the headers without `Upgrade`. Store `Upgrade` in `offer`."""
        self.offer = b", ".join(value for name, value in self.headers if name == b"upgrade")
        version = self.parser.get_http_version().encode()
        line = b"%s %s HTTP/%s\r\n" % (self.parser.get_method(), self.url, version)
        fields = [b"%s: %s\r\n" % field for field in self.headers if field[0] != b"upgrade"]
        return line + b"".join(fields) + b"\r\n"

    def send_400_response(self, msg: str) -> None:
        """Respond with 400, and count the rejection unless a view counts it.

        A view receives a request as soon as its headers are complete, and counts it after the disconnect.
        """
        if not self.in_body:
            telemetry.count_rejected("http", 400)
        super().send_400_response(self.rejection_reason or msg)


class CountedWebSockets(WebSocketsSansIOProtocol):
    """Counts handshakes that are rejected before the application receives them."""

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if self.response.status_code != SWITCHING_PROTOCOLS:
            telemetry.count_rejected("websocket", self.response.status_code)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            # The WebSocket library rejects a handshake that exceeds its limits. uvicorn would not respond.
            telemetry.count_rejected("websocket", 400)
            self.transport.write(BAD_HANDSHAKE)
            self.transport.close()


class GatewayServer(uvicorn.Server):
    """Shuts down gracefully on SIGTERM.

    `/ready` responds with 503 at once. New connections are accepted for another GATEWAY_DRAIN_S. Idle ones
    stay open for another IDLE_GRACE_S: a proxy that sends a request while its connection is closed does not
    repeat a POST. Requests in flight then have GATEWAY_SHUTDOWN_TIMEOUT_S to finish. Remaining requests are
    cancelled and settled.
    """

    def __init__(self, config: uvicorn.Config, banner: str) -> None:
        super().__init__(config)
        self.banner = banner

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        tune_gc()
        if self.started and self.banner:
            print(self.banner, flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        runtime.ready = False
        self.server_state.default_headers = [CLOSE_AFTER_RESPONSE]
        await asyncio.sleep(settings.ENV.gateway_drain_s)
        await self.stop_listening(sockets or [])
        await self.wait_for_idle_connections()
        await super().shutdown(sockets=sockets)
        await self.wait_for_last_writes()

    async def stop_listening(self, sockets: list[socket.socket]) -> None:
        """Close the sockets. Connections that the kernel has accepted are served, not reset."""
        accepted = [connection for listener in sockets for connection in waiting_connections(listener)]
        for server in self.servers:
            server.close()
        for connection in accepted:
            await asyncio.get_running_loop().connect_accepted_socket(self.new_protocol, connection)

    def new_protocol(self) -> LimitedProtocol:
        return LimitedProtocol(self.config, self.server_state, self.lifespan.state)

    async def wait_for_idle_connections(self) -> None:
        """Wait until each idle connection has carried its last request, at most IDLE_GRACE_S."""
        for _ in range(int(IDLE_GRACE_S / FLUSH_POLL_INTERVAL_S)):
            cycles = [getattr(connection, "cycle", None) for connection in self.server_state.connections]
            if all(cycle is not None and not cycle.response_complete for cycle in cycles):
                return
            await asyncio.sleep(FLUSH_POLL_INTERVAL_S)

    async def wait_for_last_writes(self) -> None:
        """Wait until cancelled requests have sent their errors and all connections are closed."""
        for _ in range(int(FLUSH_TIMEOUT_S / FLUSH_POLL_INTERVAL_S)):
            if not self.server_state.connections:
                return
            await asyncio.sleep(FLUSH_POLL_INTERVAL_S)


def waiting_connections(listener: socket.socket) -> Iterator[socket.socket]:
    """Accept the connections that wait at a non-blocking socket."""
    with suppress(BlockingIOError):
        while True:
            yield listener.accept()[0]


def build(banner: str = "") -> GatewayServer:
    """Return a server that is not listening yet."""
    config = uvicorn.Config(
        "gateway_project.asgi:application",
        http=LimitedProtocol,
        ws=CountedWebSockets,
        loop="uvloop",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEPALIVE_S,
        timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S,
        backlog=4096,
    )
    return GatewayServer(config, banner)


def bind(host: str, port: int) -> socket.socket:
    """Bind a socket to the address. Raises OSError if the address is in use.

    `serve` does this first, so that a second gateway fails before it changes the database.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    bound.set_inheritable(True)
    return bound
