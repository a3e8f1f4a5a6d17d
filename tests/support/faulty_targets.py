"""Targets at the local upstream that fail in chosen ways, and count what they bill."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from billing.pricing import Price, Tokens
from billing.pricing.price import Rates
from proxy.providers.catalog import PROVIDERS
from proxy.routing.accounts import Account
from proxy.routing.targets import Resolution, Target
from tests.support.api_calls import COMPLETE_USAGE, RESPONSES, STREAMS, respond_with_text, usage_field
from tests.support.gateway_server import free_port
from tests.support.upstream_server import Handler, LocalUpstream

Json = dict[str, Any]
PROVIDER_SLUGS = {
    "openai_chat": "compatible",
    "openai_responses": "openai",
    "anthropic": "anthropic",
    "gemini": "gemini",
}
TOKENS = Tokens(input=7, output=5)
"""Tokens of a complete response, which its provider bills."""


def openai_error(status: int, text: str, code: str | None) -> Json:
    return {"error": {"message": text, "type": "server_error", "code": code}}


def anthropic_error(status: int, text: str, code: str | None) -> Json:
    return {"type": "error", "error": {"type": code or "api_error", "message": text}}


def gemini_error(status: int, text: str, code: str | None) -> Json:
    return {"error": {"code": status, "message": text, "status": code or "UNAVAILABLE"}}


ERROR_BODIES: dict[str, Callable[[int, str, str | None], Json]] = {
    "openai_chat": openai_error,
    "openai_responses": openai_error,
    "anthropic": anthropic_error,
    "gemini": gemini_error,
}
OPENING_ERRORS = {
    "openai_chat": b'data: {"error":{"message":"The server is overloaded","code":503}}\n\n',
    "openai_responses": (
        b'event: response.failed\ndata: {"type":"response.failed","sequence_number":1,"response":{"id":"r",'
        b'"object":"response","status":"failed","output":[],'
        b'"error":{"code":"server_error","message":"The server is overloaded"}}}\n\n'
    ),
    "anthropic": (
        b'event: error\ndata: {"type":"error",'
        b'"error":{"type":"overloaded_error","message":"The server is overloaded"}}\n\n'
    ),
    "gemini": (
        b'data: {"error":{"code":503,"message":"The server is overloaded","status":"UNAVAILABLE"}}\r\n\r\n'
    ),
}


@dataclass
class FaultyTarget:
    """A target whose calls get one behaviour after the other. The last one is repeated.

    `billed` is the number of complete responses, which the provider bills. `calls` counts all calls.
    """

    target: Target
    format: str
    behaviours: list["Behaviour"]
    calls: int = 0
    billed: int = 0

    @property
    def cost_nano(self) -> int:
        """The cost that the provider bills, in nano-USD."""
        assert self.target.price is not None
        return self.billed * self.target.price.cost(TOKENS, {})

    def next_behaviour(self) -> "Behaviour":
        self.calls += 1
        return self.behaviours.pop(0) if len(self.behaviours) > 1 else self.behaviours[0]


Behaviour = Callable[[FaultyTarget, web.Request, Json], Awaitable[web.StreamResponse]]


@dataclass
class FaultyTargets:
    """Targets by name at one upstream. The name is the first part of the path.

    `retries` is the number of retries of each target, without a delay.
    """

    upstream: LocalUpstream
    retries: int = 0
    keep_handler: bool = False
    retries_context_length: bool = False
    by_name: dict[str, FaultyTarget] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root = self.upstream.url.removesuffix("/v1")
        if not self.keep_handler:
            self.upstream.handler = self.handle

    def add(
        self,
        name: str,
        *behaviours: Behaviour,
        format: str = "openai_chat",
        usd: int = 1,
        trusted: bool = True,
        model: str = "",
        timeout_s: float | None = None,
    ) -> FaultyTarget:
        """Add a target, whose input costs `usd` per million tokens, and whose output costs twice as much.

        It is an account of the operator if it is `trusted`, else one of the project.
        """
        provider = PROVIDERS[PROVIDER_SLUGS[format]]
        root = f"http://127.0.0.1:{free_port()}" if behaviours == (refuse,) else self.root
        path = urlsplit(provider.base_url).path or "/v1"
        account = Account(name, provider, f"{root}/{name}{path}", "sk-secret", trusted=trusted)
        rate = usd * 10**9
        price = Price(source="test", base=Rates(rate, rate, rate, rate, 2 * rate))
        target = FaultyTarget(
            Target(account, model or f"model-{name}", price, timeout_s), format, list(behaviours) or [succeed]
        )
        self.by_name[name] = target
        return target

    def order(self, *names: str) -> None:
        """Change the order in which the targets are called."""
        self.by_name = {name: self.by_name[name] for name in names}

    def resolution(self) -> Resolution:
        """Return the targets in the order in which they were added."""
        targets = tuple(each.target for each in self.by_name.values())
        return Resolution(targets, self.retries, 0, self.retries_context_length)

    async def handle(self, request: web.Request, body: Json) -> web.StreamResponse:
        target = self.by_name[request.path.split("/")[1]]
        return await target.next_behaviour()(target, request, body)


async def succeed(target: FaultyTarget, request: web.Request, body: Json) -> web.StreamResponse:
    target.billed += 1
    text = f"Hello from {target.target.account.slug}"
    respond: Handler = respond_with_text(target.format, text, COMPLETE_USAGE[target.format])
    return await respond(request, body)


async def refuse(target: FaultyTarget, request: web.Request, body: Json) -> web.StreamResponse:
    """Refuse the connection: nothing listens on the port of the target."""
    raise AssertionError("the connection is refused")


def status(status: int, text: str = "An error", code: str | None = None, **headers: str) -> Behaviour:
    """Return a behaviour that responds with an error of this status."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    async def fail(target: FaultyTarget, request: web.Request, body: Json) -> web.StreamResponse:
        return web.json_response(
            ERROR_BODIES[target.format](status, text, code), status=status, headers=named
        )

    return fail


async def reset_before_response(target: FaultyTarget, request: web.Request, body: Json) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def open_with_error(target: FaultyTarget, request: web.Request, body: Json) -> web.StreamResponse:
    """Respond with status 200 and an error event."""
    if not is_stream(request, body):
        return await status(503)(target, request, body)
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    await response.write(OPENING_ERRORS[target.format])
    return response


async def close_in_body(target: FaultyTarget, request: web.Request, body: Json) -> web.StreamResponse:
    """Send the first part of a response, and close the connection.

    A reset could overtake the data on a loaded machine.
    """
    response, pieces = await started(target, request, body)
    for piece in pieces[: 1 + next(index for index, piece in enumerate(pieces) if b"Hello" in piece)]:
        await response.write(piece)
    assert request.transport is not None
    request.transport.close()
    return response


async def started(
    target: FaultyTarget, request: web.Request, body: Json
) -> tuple[web.StreamResponse, list[bytes]]:
    """Send the status and headers of a success. Return the response, and the pieces of its body."""
    usage = COMPLETE_USAGE[target.format]
    if is_stream(request, body):
        pieces, type = STREAMS[target.format]("Hello", usage, 1), "text/event-stream"
    else:
        whole = json.dumps(RESPONSES[target.format]("Hello") | usage_field(target.format, usage)).encode()
        half = whole.index(b"Hello") + 5
        pieces, type = [whole[:half], whole[half:]], "application/json"
    response = web.StreamResponse(headers={"content-type": type})
    await response.prepare(request)
    return response, pieces


async def hang(target: FaultyTarget, request: web.Request, body: Json) -> web.StreamResponse:
    """Send nothing until the gateway closes the connection."""
    await asyncio.sleep(30)
    raise AssertionError("the gateway has not closed the connection")


async def send_only_keepalives(target: FaultyTarget, request: web.Request, body: Json) -> web.StreamResponse:
    """Send the headers of a stream and comments. A non-streaming response sends nothing in the meantime."""
    if not is_stream(request, body):
        return await hang(target, request, body)
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    while True:
        await response.write(b": keep-alive\n\n")
        await asyncio.sleep(0.01)


async def trickle(target: FaultyTarget, request: web.Request, body: Json) -> web.StreamResponse:
    """Send a complete response in many small pieces."""
    target.billed += 1
    response, pieces = await started(target, request, body)
    data = b"".join(pieces)
    step = len(data) // 5
    for start in range(0, len(data), step):
        await response.write(data[start : start + step])
        await asyncio.sleep(0.002)
    return response


async def begin_slowly(target: FaultyTarget, request: web.Request, body: Json) -> web.StreamResponse:
    """Send the headers, and the complete body after a pause."""
    target.billed += 1
    response, pieces = await started(target, request, body)
    await asyncio.sleep(0.03)
    await response.write(b"".join(pieces))
    return response


async def truncate(target: FaultyTarget, request: web.Request, body: Json) -> web.StreamResponse:
    """Send a body that ends properly, in the middle of the JSON."""
    response, pieces = await started(target, request, body)
    for piece in pieces[: 1 + next(index for index, piece in enumerate(pieces) if b"Hello" in piece)]:
        await response.write(piece)
    return response


async def send_web_page(target: FaultyTarget, request: web.Request, body: Json) -> web.StreamResponse:
    """Send a web page with status 200."""
    return web.Response(text="<html><body>Welcome</body></html>", content_type="text/html")


def is_stream(request: web.Request, body: Json) -> bool:
    return bool(body.get("stream")) or "streamGenerateContent" in request.path
