"""uvicorn, with what a gateway needs of it: capped headers, and an end that loses no request."""

import asyncio
import gc
import socket

import uvicorn
from django.conf import settings
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from proxy import telemetry
from proxy.runtime import runtime

KEEPALIVE_S = 75
"""Longer than the 60 s of common load balancers, which must not reuse a connection that closes at that moment."""
SHUTDOWN_TIMEOUT_S = settings.ENV.gateway_shutdown_timeout_s
HEADER_TIMEOUT_S = 30
"""How long the head of a request may take, also the first one of a new connection."""
BODY_IDLE_TIMEOUT_S = 30
"""How long a body that trickles may pause: who has no key must not hold a connection for ever."""
MAX_HEADER_BYTES = settings.ENV.gateway_max_header_bytes
MAX_HEADER_COUNT = settings.ENV.gateway_max_header_count
TOO_MANY_BYTES = "Too many header bytes."
SWITCHING_PROTOCOLS = 101
BAD_HANDSHAKE = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
GC_GEN0_THRESHOLD = 10_000
ERRORS_OUT_S = 1
"""How long a stopping process waits for clients to take their last bytes, after all requests are settled."""
ERRORS_OUT_POLL_S = 0.02


class LimitedProtocol(HttpToolsProtocol):
    """Refuses requests with too many header fields or bytes while they still arrive.

    httptools has no limit of its own. It reports a field only when it is complete, and many at once if they
    arrive together: `header_bytes` counts what it reported, `head_bytes` what arrived of a head that has no end yet.
    """

    header_bytes = head_bytes = 0
    heads_begun = 0
    in_headers = in_body = False
    refusal = ""
    deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.set_deadline(HEADER_TIMEOUT_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self.set_deadline(None)
        super().connection_lost(exc)

    def set_deadline(self, seconds: float | None) -> None:
        """Closes the connection if nothing more arrives in time; None: nothing is expected."""
        if self.deadline is not None:
            self.deadline.cancel()
        self.deadline = None if seconds is None else self.loop.call_later(seconds, self.transport.close)

    def data_received(self, data: bytes) -> None:
        heads = None if self.in_body else 0 if self.in_headers else 1
        self.heads_begun = 0
        super().data_received(data)
        if self.in_headers:
            # An earlier request may end in the same bytes: those do not count, and the parser reports the fields.
            self.on_header_bytes(len(data) if self.heads_begun == heads else 0)
        elif self.in_body:
            self.set_deadline(BODY_IDLE_TIMEOUT_S)

    def on_header_bytes(self, size: int) -> None:
        if self.deadline is None:
            self.set_deadline(HEADER_TIMEOUT_S)
        self.head_bytes += size
        if self.head_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
            self.send_400_response(TOO_MANY_BYTES)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.header_bytes, self.head_bytes, self.in_headers = 0, 0, True
        self.heads_begun += 1

    def on_message_complete(self) -> None:
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

    def stop_parsing(self, refusal: str) -> None:
        """Raise what the parser turns into an error of its own, which uvicorn answers with 400 and the end."""
        self.refusal = refusal
        raise ValueError(refusal)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self.in_headers, self.in_body = False, True
        self.set_deadline(None)

    def send_400_response(self, msg: str) -> None:
        """Count the refusal, unless the request is in its view: then that counts it when the client is gone."""
        if not self.in_body:
            telemetry.count_refused("http", 400)
        super().send_400_response(self.refusal or msg)


class CountedWebSockets(WebSocketsSansIOProtocol):
    """Counts handshakes that are refused before the application sees them."""

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if self.response.status_code != SWITCHING_PROTOCOLS:
            telemetry.count_refused("websocket", self.response.status_code)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            # The library has limits of its own for lines and fields. uvicorn would leave the client without an answer.
            telemetry.count_refused("websocket", 400)
            self.transport.write(BAD_HANDSHAKE)
            self.transport.close()


class GatewayServer(uvicorn.Server):
    """On SIGTERM: unready at once, still serving for GATEWAY_DRAIN_S, then closed, streams finishing, all settled."""

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
        await asyncio.sleep(settings.ENV.gateway_drain_s)
        await super().shutdown(sockets=sockets)
        await self.let_errors_out()

    async def let_errors_out(self) -> None:
        """Wait until requests that were cancelled have answered so, and their connections are closed."""
        for _ in range(int(ERRORS_OUT_S / ERRORS_OUT_POLL_S)):
            if not self.server_state.connections:
                return
            await asyncio.sleep(ERRORS_OUT_POLL_S)


def tune_gc() -> None:
    """What the start has loaded stays for good: Python's collector need not walk through it again and again under load,
    which took half of the CPU time of a request.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_GEN0_THRESHOLD, 20, 50)


def build(banner: str = "") -> GatewayServer:
    """A server that is not listening yet."""
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
    """A listening address, taken before anything else is done; raises OSError where it is in use."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((host, port))
    bound.set_inheritable(True)
    return bound
