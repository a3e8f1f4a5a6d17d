"""Peers of the benchmark: a provider that responds at once, and a relay without any other work."""

import json
import os
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

CHUNKS = 50
USAGE = {"prompt_tokens": 128, "completion_tokens": CHUNKS, "total_tokens": 128 + CHUNKS}
RESPONSE = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4o-mini",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "The capital of France is Paris."},
                "finish_reason": "stop",
            }
        ],
        "usage": USAGE,
    }
).encode()


def chunk(**fields: Any) -> bytes:
    return (
        b"data: "
        + json.dumps(
            {
                "id": "chatcmpl-1",
                "object": "chat.completion.chunk",
                "created": 1,
                "model": "gpt-4o-mini",
                **fields,
            }
        ).encode()
        + b"\n\n"
    )


TOKEN = chunk(choices=[{"index": 0, "delta": {"content": " token"}, "finish_reason": None}])
LAST = (
    chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
    + chunk(choices=[], usage=USAGE)
    + b"data: [DONE]\n\n"
)


async def body_of(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body


async def start(send: Send, content_type: bytes) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", content_type)]})


async def provider(scope: Scope, receive: Receive, send: Send) -> None:
    """Stream one token per chunk, or send a non-streaming response."""
    body = await body_of(receive)
    if b'"stream": true' not in body and b'"stream":true' not in body:
        await start(send, b"application/json")
        await send({"type": "http.response.body", "body": RESPONSE})
        return
    await start(send, b"text/event-stream")
    for _ in range(CHUNKS):
        await send({"type": "http.response.body", "body": TOKEN, "more_body": True})
    await send({"type": "http.response.body", "body": LAST})


class Relay:
    """Minimal ASGI relay without keys, budgets and metering."""

    session: aiohttp.ClientSession | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.session is None:
            self.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        url = os.environ["BENCH_PROVIDER"] + "/chat/completions"
        async with self.session.post(
            url, data=await body_of(receive), headers={"content-type": "application/json"}
        ) as reply:
            await start(send, reply.headers["content-type"].encode())
            async for part in reply.content.iter_any():
                await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


relay = Relay()
