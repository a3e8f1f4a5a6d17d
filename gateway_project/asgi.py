"""The ASGI application: gateway routes on the lean path, everything else through Django."""

import asyncio
import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()

from gateway_project import lifespan
from proxy import telemetry
from proxy.http.asgi import ASGIMessage, Receive, Scope, Send
from proxy.http.cancellation import outlive_cancellation
from proxy.http.handler import dispatch, resolve_route
from proxy.http.responses import Response, shutting_down_response

MAX_PAGE_BODY_BYTES = 2_621_440
"""2.5 MiB: no page has a larger form. Django would store a body of any size before it looks at who sent it."""


async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    match scope["type"]:
        case "http":
            match = resolve_route(scope["path"])
            if match is None:
                await serve_page(scope, receive, send)
            else:
                await dispatch(match, scope, receive, send)
        case "lifespan":
            await lifespan.run(receive, send)
        case _:
            telemetry.count_refused("websocket", 403)
            await send({"type": "websocket.close", "code": 4404})


async def serve_page(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Django's answer, or a 413 in its place."""
    body, answer = LimitedBody(receive), PageAnswer(send)
    if content_length(scope) > MAX_PAGE_BODY_BYTES:
        body.too_large = True
    else:
        try:
            await django_application(scope, body.receive, answer.send)
        except asyncio.CancelledError:
            await answer.stop()
    if body.too_large:
        await Response(
            413, {"content-type": "text/plain; charset=utf-8"}, b"The request body is too large.\n"
        ).send_to(send)


class PageAnswer:
    """Django's answer on its way to the client, or a 503 in its place if the server stops before it starts."""

    def __init__(self, send: Send) -> None:
        self.wire = send
        self.has_started = self.is_stopped = False

    async def send(self, message: ASGIMessage) -> None:
        # A view in a thread cannot be cancelled: what it still answers has no place any more.
        if not self.is_stopped:
            self.has_started = True
            await self.wire(message)

    async def stop(self) -> None:
        """End the answer. One that has started is cut: a proper end would make a part of it look like the whole."""
        outlive_cancellation()
        self.is_stopped = True
        if not self.has_started:
            await shutting_down_response().send_to(self.wire)


def content_length(scope: Scope) -> int:
    return next(
        (int(value) for name, value in scope["headers"] if name == b"content-length" and value.isdigit()), 0
    )


class LimitedBody:
    """A body on its way to Django. Beyond the cap Django is told that the client has gone: it drops what it has and says nothing."""

    def __init__(self, receive: Receive) -> None:
        self.inner_receive = receive
        self.size = 0
        self.too_large = False

    async def receive(self) -> ASGIMessage:
        message = await self.inner_receive()
        self.size += len(message.get("body", b""))
        self.too_large = self.too_large or self.size > MAX_PAGE_BODY_BYTES
        return {"type": "http.disconnect"} if self.too_large else message
