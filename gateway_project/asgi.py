"""ASGI application: gateway routes go to the lean handler, everything else through Django."""

import asyncio
import os
from contextlib import suppress
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()

from django.conf import settings
from django.urls import Resolver404, resolve

from gateway_project import lifespan
from proxy import telemetry
from proxy.endpoints import not_found
from proxy.http.asgi import ASGIMessage, Receive, Scope, Send
from proxy.http.cancellation import outlive_cancellation
from proxy.http.handler import dispatch, resolve_route
from proxy.http.request import GatewayRequest
from proxy.http.responses import Response, shutting_down_response
from proxy.pipeline.authenticate import extract_api_key

MAX_PAGE_BODY_BYTES = 2_621_440
"""2.5 MiB, more than any form of a page. Django would store a body of any size before it authenticates."""


async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan.run(receive, send)
        return
    if not lifespan.services.have_started:
        await lifespan.services.start_on_demand()
    if scope["type"] == "http":
        await serve_request(scope, receive, send)
    else:
        telemetry.count_rejected("websocket", 403)
        await send({"type": "websocket.close", "code": 4404})


async def serve_request(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    if match := resolve_route(scope["path"]):
        await dispatch(match, scope, receive, send)
    elif is_from_program(GatewayRequest(scope, receive)):
        await dispatch(not_found.ROUTE, scope, receive, send)
    else:
        await serve_page(scope, receive, send)


def is_from_program(request: GatewayRequest) -> bool:
    """Return whether a request that no gateway route serves comes from a program, which cannot read HTML.

    No form of a page sends JSON. A browser sends no API key, and to an unknown path only GET.
    """
    is_get = request.method in ("GET", "HEAD")
    sends_json = request.header(b"content-type").lower().startswith("application/json")
    if is_page(request.path):
        return not is_get and sends_json
    return not is_get or sends_json or bool(extract_api_key(request))


def is_page(path: str) -> bool:
    """Return whether Django serves the path, or the same path with a slash at its end."""
    if path.startswith(settings.STATIC_URL):
        return True
    for candidate in (path, f"{path}/"):
        with suppress(Resolver404):
            resolve(candidate)
            return True
    return False


async def serve_page(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Send Django's response, or a 413 if the request body is too large."""
    body, response = LimitedBody(receive), PageResponse(send)
    if content_length(scope) > MAX_PAGE_BODY_BYTES:
        body.too_large = True
    else:
        try:
            await django_application(scope, body.receive, response.send)
        except asyncio.CancelledError:
            await response.stop()
    if body.too_large:
        await Response(
            413, {"content-type": "text/plain; charset=utf-8"}, b"The request body is too large.\n"
        ).send_to(send)


class PageResponse:
    """Django's response on its way to the client; a 503 if the server stops before the response starts."""

    def __init__(self, send: Send) -> None:
        self.server_send = send
        self.has_started = self.is_stopped = False

    async def send(self, message: ASGIMessage) -> None:
        # A view in a thread cannot be cancelled. What it sends after the stop is dropped.
        if not self.is_stopped:
            self.has_started = True
            await self.server_send(message)

    async def stop(self) -> None:
        """End the response. One that has started is cut off: a proper end would make a part look complete."""
        outlive_cancellation()
        self.is_stopped = True
        if not self.has_started:
            await shutting_down_response().send_to(self.server_send)


def content_length(scope: Scope) -> int:
    return next(
        (int(value) for name, value in scope["headers"] if name == b"content-length" and value.isdigit()), 0
    )


class LimitedBody:
    """A request body on its way to Django, up to MAX_PAGE_BODY_BYTES.

    Beyond the limit Django receives a client disconnect: it drops what it has, and sends no response.
    """

    def __init__(self, receive: Receive) -> None:
        self.server_receive = receive
        self.size = 0
        self.too_large = False

    async def receive(self) -> ASGIMessage:
        message = await self.server_receive()
        self.size += len(message.get("body", b""))
        self.too_large = self.too_large or self.size > MAX_PAGE_BODY_BYTES
        return {"type": "http.disconnect"} if self.too_large else message
