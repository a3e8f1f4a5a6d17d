"""Providers of the catalog, moved to the local upstream, with a separate path for each format."""

from collections.abc import Callable
from typing import Any

from aiohttp import web

from tests.support.upstream_server import completion

ReachProvider = Callable[[str], None]
"""Moves the provider with this slug to the local upstream."""


async def short_response(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Respond with a short text in the format of the path, without streaming."""
    usage = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
    if request.path.endswith("/responses"):
        message = {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Hello", "annotations": []}],
        }
        return web.json_response(
            {
                "id": "resp_1",
                "model": body["model"],
                "status": "completed",
                "output": [message],
                "usage": usage,
            }
        )
    if request.path.endswith("/messages"):
        content = [{"type": "text", "text": "Hello"}]
        stated = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": content,
        }
        return web.json_response({**stated, "stop_reason": "end_turn", "stop_sequence": None, "usage": usage})
    return await completion(request, body)
