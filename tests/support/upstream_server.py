"""A provider on the loopback interface. A test sets its responses, and reads the received requests."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Handler = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]


@dataclass
class UpstreamRequest:
    path: str
    headers: dict[str, str]
    body: bytes
    closed: threading.Event = field(default_factory=threading.Event)


class LocalUpstream:
    """Server in its own thread. Each test sets `handler`; `requests` is emptied before each test."""

    def __init__(self) -> None:
        self.requests: list[UpstreamRequest] = []
        self.handler: Handler = completion
        self.loop = asyncio.new_event_loop()
        self.started = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def start(self) -> "LocalUpstream":
        self.thread.start()
        assert self.started.wait(10)
        return self

    def run(self) -> None:
        self.loop.run_until_complete(self.serve())

    async def serve(self) -> None:
        self.stopping = asyncio.Event()
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{tail:.*}", self.handle)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        self.started.set()
        await self.stopping.wait()
        await runner.cleanup()

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.stopping.set)
        self.thread.join(10)
        self.loop.close()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        received = UpstreamRequest(
            request.path, {name.lower(): value for name, value in request.headers.items()}, body
        )
        self.requests.append(received)
        try:
            return await self.handler(request, await request.json() if body else {})
        except (asyncio.CancelledError, ConnectionResetError):
            received.closed.set()
            raise


USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 20,
    "total_tokens": 120,
    "prompt_tokens_details": {"cached_tokens": 40},
    "completion_tokens_details": {"reasoning_tokens": 5},
}


async def completion(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Respond with a short text and usage in OpenAI's format, as a stream if the request asks for one."""
    if not body.get("stream"):
        message = {"role": "assistant", "content": "Hello there"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return web.json_response(
            {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "model": body["model"],
                "choices": [choice],
                "usage": USAGE,
            }
        )
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(_request)
    for event in events(body):
        await response.write(event)
    return response


def events(body: dict[str, Any]) -> list[bytes]:
    sent = [chunk({"content": "Hello"}), chunk({"content": " there"}), chunk({}, "stop")]
    if (body.get("stream_options") or {}).get("include_usage"):
        sent.append(
            b'data: {"id":"c","object":"chat.completion.chunk","choices":[],"usage":%s}\n\n'
            % web.json_response(USAGE).body
        )
    return [*sent, b"data: [DONE]\n\n"]


def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    data = web.json_response(
        {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    ).body
    return b"data: %s\n\n" % data
