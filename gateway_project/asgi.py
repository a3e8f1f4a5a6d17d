"""The ASGI application. `proxy/http/handler.py` serves gateway routes, and Django everything else."""

import asyncio
import os
from contextlib import suppress
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()

from django.conf import settings
from django.urls import Resolver404, resolve

from gateway_project import lifespan, surfaces
from gateway_project.api.envelope import error_body
from projects.ids import uuid7
from proxy import telemetry
from proxy.endpoints import not_found
from proxy.http.asgi import ASGIMessage, Receive, Scope, Send
from proxy.http.cancellation import outlive_cancellation
from proxy.http.handler import dispatch, resolve_route, usual_path
from proxy.http.request import GatewayRequest, extract_api_key
from proxy.http.request_id import REQUEST_ID_HEADER, choose_request_id
from proxy.http.responses import Response, json_response, shutting_down_response
from proxy.http.web_origin import answer_preflight

RawHeaders = list[tuple[bytes, bytes]]
MAX_PAGE_BODY_BYTES = 2_621_440
"""2.5 MiB, which is larger than any form. Without a limit, Django would store a body of any size."""


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
    match = resolve_route(scope["path"])
    if settings.HAS_LIMITED_SURFACES and not surfaces.serves(scope, is_gateway_route=match is not None):
        request_id = choose_request_id(GatewayRequest(scope, receive), uuid7())
        await surfaces.response_to_unserved(scope, request_id).send_to(send)
    elif match:
        await dispatch(match, scope, receive, send)
    elif (path := usual_path(scope["path"])).startswith("/api/"):
        # Programs call the REST API. Like gateway routes, it ignores repeated slashes and those at the end.
        api_send = await answer_preflight(GatewayRequest(scope, receive), send)
        if api_send is not None:
            await serve_page({**scope, "path": path, "raw_path": path.encode()}, receive, api_send)
    elif is_from_program(GatewayRequest(scope, receive)):
        await dispatch(not_found.ROUTE, scope, receive, send)
    else:
        await serve_page(scope, receive, send)


def is_from_program(request: GatewayRequest) -> bool:
    """Return whether a request outside the gateway routes comes from a program, which cannot read HTML.

    JSON in the body shows that a program sent the request, because forms do not send JSON. On a path that is
    neither a gateway route nor a page, an API key or a method other than GET shows this too.
    """
    is_get = request.method in ("GET", "HEAD")
    sends_json = request.header(b"content-type").lower().startswith("application/json")
    if is_page(request.path):
        return not is_get and sends_json
    return not is_get or sends_json or bool(extract_api_key(request))


def is_page(path: str) -> bool:
    """Return whether Django serves the path, or the path with a slash appended."""
    if path.startswith(settings.STATIC_URL):
        return True
    for candidate in (path, f"{path}/"):
        with suppress(Resolver404):
            resolve(candidate)
            return True
    return False


async def serve_page(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Let Django respond. If the request body is too large, respond with 413 instead."""
    request_id = choose_request_id(GatewayRequest(scope, receive), uuid7())
    body, response = LimitedBody(receive), PageResponse(send, request_id)
    if content_length(scope) > MAX_PAGE_BODY_BYTES:
        body.too_large = True
    else:
        try:
            await django_application(scope, body.receive, response.send)
        except asyncio.CancelledError:
            await response.stop()
    if body.too_large:
        await too_large_response(scope["path"], request_id).send_to(send)


def too_large_response(path: str, request_id: str) -> Response:
    """Return the 413 for a body that is too large, for the REST API in its envelope."""
    headers, text = {REQUEST_ID_HEADER: request_id}, "The request body is too large."
    if path.startswith("/api/"):
        return json_response(413, headers, error_body(413, text, request_id))
    headers["content-type"] = "text/plain; charset=utf-8"
    return Response(413, headers, f"{text}\n".encode())


class PageResponse:
    """Sends Django's response to the client, with the request's id.

    If the server stops before the response starts, it sends a 503 instead.
    """

    def __init__(self, send: Send, request_id: str) -> None:
        self.server_send, self.request_id = send, request_id
        self.has_started = self.is_stopped = False

    async def send(self, message: ASGIMessage) -> None:
        # A view in a thread cannot be cancelled, so it may send messages after `stop`. They are ignored.
        if not self.is_stopped:
            if not self.has_started:
                message = {**message, "headers": self.with_request_id(message["headers"])}
            self.has_started = True
            await self.server_send(message)

    def with_request_id(self, headers: RawHeaders) -> RawHeaders:
        """Return the headers with the request's id, unless the view has set one."""
        own = (REQUEST_ID_HEADER.encode(), self.request_id.encode())
        has_id = any(name.lower() == own[0] for name, _ in headers)
        return headers if has_id else [*headers, own]

    async def stop(self) -> None:
        """Respond with 503, unless the response has started.

        A response that has started is left without an end, so that the client sees that it is incomplete.
        """
        outlive_cancellation()
        self.is_stopped = True
        if not self.has_started:
            await shutting_down_response(self.request_id).send_to(self.server_send)


def content_length(scope: Scope) -> int:
    return next(
        (int(value) for name, value in scope["headers"] if name == b"content-length" and value.isdigit()), 0
    )


class LimitedBody:
    """Passes a request body of at most MAX_PAGE_BODY_BYTES to Django.

    If the body is larger, Django receives a client disconnect, discards the body and sends no response.
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
