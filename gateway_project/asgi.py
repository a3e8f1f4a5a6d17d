"""The ASGI application: gateway routes on the lean path, everything else through Django."""

import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()

from gateway_project import lifespan
from proxy import lean

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
            await send({"type": "websocket.close", "code": 4404})


async def page(scope: dict[str, Any], receive: lean.Receive, send: lean.Send) -> None:
    """Django's answer, or a 413 in its place."""
    body = CappedBody(receive)
    if announced_length(scope) > MAX_PAGE_BODY_BYTES:
        body.too_large = True
    else:
        await django_application(scope, body.receive, send)
    if body.too_large:
        await lean.Reply(413, {"content-type": "text/plain; charset=utf-8"}, b"The request body is too large.\n").deliver(send)


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
