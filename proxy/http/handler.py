"""Dispatch gateway routes to their views, without the cost of Django's request cycle.

There are no middleware, no signals and no thread-local context. The body is received only if the view asks
for it, and up to a limit. Nothing is therefore stored for a client without a key. See
`docs/adr/0001-lean-handler.md`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from django.urls import Resolver404, ResolverMatch, resolve

from projects.ids import uuid7
from proxy.http import web_origin
from proxy.http.asgi import Receive, Scope, Send
from proxy.http.cancellation import outlive_cancellation
from proxy.http.request import GatewayRequest
from proxy.http.request_id import choose_request_id
from proxy.http.responses import AsgiWriter, ResponseWriter, shutting_down_response
from proxy.operations import METRICS, Operation


@dataclass(frozen=True, slots=True)
class GatewayView:
    """A view in Django's URLconf that runs without Django's request cycle.

    `run` takes the request, the writer and the parameters of the path, and writes the response. `others` are
    the views of other methods at the same URL. This view responds to all other methods.
    """

    operation: Operation
    run: Callable[..., Awaitable[None]]
    others: tuple["GatewayView", ...] = ()

    def __call__(self, request: GatewayRequest, writer: ResponseWriter, **url_params: str) -> Any:
        """Return the awaitable of `run`.

        Only `dispatch` calls this, although Django's types expect a response.
        """
        view = next((each for each in self.others if each.operation.method == request.method), self)
        return view.run(request, writer, **url_params)


@lru_cache(maxsize=1024)
def resolve_route(path: str) -> ResolverMatch | None:
    """Return the gateway route at this path, or None if Django's own handler serves it.

    Clients often join a base URL and a path with one slash too many. Repeated slashes therefore count as one,
    and a slash at the end is ignored. `/metrics` has only one spelling, because a proxy may block exactly
    that path.
    """
    usual = usual_path(path)
    try:
        match = resolve(usual)
    except Resolver404:
        return None
    if not isinstance(match.func, GatewayView):
        return None
    return None if match.func.operation is METRICS and path != usual else match


def usual_path(path: str) -> str:
    """Return a path without repeated slashes, and without a slash at the end."""
    return "/" + "/".join(filter(None, path.split("/")))


async def dispatch(match: ResolverMatch, scope: Scope, receive: Receive, send: Send) -> None:
    """Run a gateway view.

    The client gets a 503 if the server stops before the view has a response.
    """
    request = GatewayRequest(scope, receive)
    if b"origin" in request.raw_headers:
        answered = await web_origin.answer_preflight(request, send)
        if answered is None:
            return
        send = answered
    writer = AsgiWriter(send)
    try:
        await match.func(request, writer, *match.args, **match.kwargs)
    except asyncio.CancelledError:
        outlive_cancellation()
        # If a response has started and has no end, the server closes its connection.
        if not writer.has_started:
            with suppress(asyncio.CancelledError):
                await shutting_down_response(choose_request_id(request, uuid7())).send_to(send)
    finally:
        request.disconnect_watcher.close()
