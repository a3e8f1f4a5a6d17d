"""The ASGI application: gateway routes on the lean path, everything else through Django."""

import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()

from gateway_project import lifespan
from proxy import lean


async def application(scope: dict[str, Any], receive: lean.Receive, send: lean.Send) -> None:
    match scope["type"]:
        case "http":
            match = lean.route(scope["path"])
            if match is None:
                await django_application(scope, receive, send)
            else:
                await lean.handle(match, scope, receive, send)
        case "lifespan":
            await lifespan.run(receive, send)
        case _:
            await send({"type": "websocket.close", "code": 4404})
