"""Provider of the Responses API that stores responses and runs them in the background."""

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from aiohttp import web

Json = dict[str, Any]
USAGE: Json = {
    "input_tokens": 1000,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": 200,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 1200,
}
COMPACT_USAGE: Json = {**USAGE, "input_tokens": 5000, "output_tokens": 300, "total_tokens": 5300}
TEXT = "Otters explore the outer planets"


@dataclass
class ResponsesProvider:
    """The provider. A test ends background responses with `finish`. `calls` lists the received requests."""

    responses: dict[str, Json] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    finishes_after: int | None = None
    """The number of polls after which a background response ends."""
    failure: int = 0
    """Status of all responses to GET, if it is set."""
    polls: Counter[str] = field(default_factory=Counter)
    numbers: Any = field(default_factory=lambda: count(1))
    holds_streams: bool = False
    """If true, streams do not end, even if their responses have ended."""

    async def handle(self, request: web.Request, body: Json) -> web.StreamResponse:
        self.calls.append((request.method, request.path_qs))
        match request.method, request.path.removeprefix("/v1/responses").strip("/").split("/"):
            case "POST", [""]:
                return await self.create(request, body)
            case "POST", ["compact"]:
                return web.json_response(compaction(body))
            case "POST", ["input_tokens"]:
                return web.json_response({"object": "response.input_tokens", "input_tokens": 11})
            case method, [id, *action] if id in self.responses:
                return await self.act(request, method, id, action)
            case _:
                return error(404, f"{request.path} not found.")

    async def create(self, request: web.Request, body: Json) -> web.StreamResponse:
        id = f"resp_{next(self.numbers)}"
        status = "queued" if body.get("background") else "completed"
        self.responses[id] = response_object(id, status, body)
        if status == "completed":
            self.finish(id)
        if body.get("stream"):
            return await self.stream(request, id)
        return web.json_response(self.responses[id])

    async def act(self, request: web.Request, method: str, id: str, action: list[str]) -> web.StreamResponse:
        response = self.responses[id]
        match method, action:
            case "GET", [] if self.failure:
                return error(self.failure, "It cannot be fetched.")
            case "GET", [] if request.query.get("stream") == "true":
                return await self.stream(request, id, int(request.query.get("starting_after", -1)))
            case "GET", []:
                self.polls[id] += 1
                if self.finishes_after is not None and self.polls[id] > self.finishes_after:
                    self.finish(id)
                return web.json_response(response)
            case "GET", ["input_items"]:
                item: Json = {"id": "msg_in", "type": "message", "role": "user", "status": "completed"}
                item["content"] = [{"type": "input_text", "text": "Hi"}]
                ids = {"first_id": "msg_in", "last_id": "msg_in", "has_more": False}
                return web.json_response({"object": "list", "data": [item], **ids})
            case "POST", ["cancel"] if not response["background"]:
                return error(400, "Cannot cancel a synchronous response.")
            case "POST", ["cancel"]:
                if response["status"] in ("queued", "in_progress"):
                    response["status"] = "cancelled"
                return web.json_response(response)
            case "DELETE", []:
                del self.responses[id]
                return web.json_response({"id": id, "object": "response", "deleted": True})
            case _:
                return error(405, "Method not allowed.")

    def finish(self, id: str, status: str = "completed", usage: Json | None = USAGE, **fields: Any) -> None:
        """End a response."""
        output = [message(TEXT)] if status in ("completed", "incomplete") else []
        self.responses[id] |= {"status": status, "usage": usage, "output": output} | fields

    def is_held(self, id: str) -> bool:
        return self.holds_streams or self.responses[id]["status"] in ("queued", "in_progress")

    async def stream(self, request: web.Request, id: str, after: int = -1) -> web.StreamResponse:
        """Stream the events after a sequence number. The last events wait until the response has ended."""
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        begun = {**self.responses[id], "status": "in_progress", "output": [], "usage": None}
        names = ("created", "in_progress")
        head = [event(f"response.{name}", n, response=begun) for n, name in enumerate(names)]
        for written in head[after + 1 :]:
            await response.write(written)
        # Polled, because the test changes the state in another thread.
        while self.is_held(id):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        delta = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "delta": TEXT, "logprobs": []}
        done = {"output_index": 0, "item": message(TEXT)}
        tail = [
            event("response.output_text.delta", 2, **delta),
            event("response.output_item.done", 3, **done),
            event(f"response.{self.responses[id]['status']}", 4, response=self.responses[id]),
        ]
        for written in tail[max(after - 1, 0) :]:
            await response.write(written)
        return response


def response_object(id: str, status: str, body: Json) -> Json:
    return {
        "id": id,
        "object": "response",
        "created_at": 1,
        "status": status,
        "background": bool(body.get("background")),
        "error": None,
        "model": body["model"],
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": None,
    }


def message(text: str) -> Json:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": content}


def compaction(body: Json) -> Json:
    summary = {"id": "cmp_1", "type": "compaction", "encrypted_content": "c2VjcmV0"}
    output = [
        {"type": "message", "id": "msg_u", "role": "user", "status": "completed", "content": []},
        summary,
    ]
    fields = {"id": "resp_c", "object": "response.compaction", "created_at": 1}
    return {**fields, "output": output, "usage": COMPACT_USAGE}


def event(kind: str, number: int, **fields: Any) -> bytes:
    data = json.dumps({"type": kind, "sequence_number": number, **fields})
    return f"event: {kind}\ndata: {data}\n\n".encode()


def error(status: int, message: str) -> web.Response:
    described = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return web.json_response({"error": described}, status=status)
