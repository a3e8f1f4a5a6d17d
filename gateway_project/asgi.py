"""The ASGI application: gateway routes on the lean path, everything else through Django."""

import asyncio
import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()

from gateway_project import lifespan
from proxy import lean, metrics

MAX_PAGE_BODY_BYTES = 2_621_440
"""2.5 MiB: no page has a larger form. Django would store a body of any size before it looks at who sent it."""


async def application(scope: dict[str, Any], receive: lean.Receive, send: lean.Send) -> None:
    match scope["type"]:
        case "http":
            match = lean.route(scope["path"])
            if match is None:
                await page(scope, receive, send)
            else:
                await lean.handle(match, scope, receive, send)
        case "lifespan":
            await lifespan.run(receive, send)
        case _:
            metrics.refuse("websocket", 403)
            await send({"type": "websocket.close", "code": 4404})


async def page(scope: dict[str, Any], receive: lean.Receive, send: lean.Send) -> None:
    """Django's answer, or a 413 in its place."""
    body, answer = CappedBody(receive), PageAnswer(send)
    if announced_length(scope) > MAX_PAGE_BODY_BYTES:
        body.too_large = True
    else:
        try:
            await django_application(scope, body.receive, answer.send)
        except asyncio.CancelledError:
            await answer.stop()
    if body.too_large:
        await lean.Reply(413, {"content-type": "text/plain; charset=utf-8"}, b"The request body is too large.\n").deliver(send)


class PageAnswer:
    """Django's answer on its way to the client, or a 503 in its place if the server stops before it starts."""

    def __init__(self, send: lean.Send) -> None:
        self.wire = send
        self.has_started = self.is_stopped = False

    async def send(self, message: lean.Message) -> None:
        # A view in a thread cannot be cancelled: what it still answers has no place any more.
        if not self.is_stopped:
            self.has_started = True
            await self.wire(message)

    async def stop(self) -> None:
        """End the answer. One that has started is cut: a proper end would make a part of it look like the whole."""
        lean.outlive_cancellation()
        self.is_stopped = True
        if not self.has_started:
            await lean.stopped().deliver(self.wire)


def announced_length(scope: lean.Scope) -> int:
    return next((int(value) for name, value in scope["headers"] if name == b"content-length" and value.isdigit()), 0)


class CappedBody:
    """A body on its way to Django. Beyond the cap Django is told that the client has gone: it drops what it has and says nothing."""

    def __init__(self, receive: lean.Receive) -> None:
        self.wire = receive
        self.size = 0
        self.too_large = False

    async def receive(self) -> lean.Message:
        message = await self.wire()
        self.size += len(message.get("body", b""))
        self.too_large = self.too_large or self.size > MAX_PAGE_BODY_BYTES
        return {"type": "http.disconnect"} if self.too_large else message
