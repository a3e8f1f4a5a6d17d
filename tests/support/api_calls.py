"""Requests, responses and streams in each of the four formats, for tests of the running gateway."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
from aiohttp import web

from projects.models import Project
from proxy.models import Credential
from tests.support.live_gateway import LiveGateway
from tests.support.upstream_server import LocalUpstream

Json = dict[str, Any]
FORMATS = ("openai_chat", "openai_responses", "anthropic", "gemini")
ACCOUNTS = {"openai_chat": "openai", "openai_responses": "openai", "anthropic": "other", "gemini": "other"}
MODELS = {
    "openai_chat": "gpt-4o-mini",
    "openai_responses": "gpt-4o-mini",
    "anthropic": "claude-haiku-4-5",
    "gemini": "gemini-2.5-flash",
}
PATHS = {
    "openai_chat": "/v1/chat/completions",
    "openai_responses": "/v1/responses",
    "anthropic": "/v1/messages",
}
LIMITS = {
    "openai_chat": "max_tokens",
    "openai_responses": "max_output_tokens",
    "anthropic": "max_tokens",
    "gemini": "maxOutputTokens",
}
USAGE_FIELDS = dict.fromkeys(FORMATS, "usage") | {"gemini": "usageMetadata"}
COMPLETE_USAGE: dict[str, Json] = {
    "openai_chat": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12},
    "openai_responses": {"input_tokens": 7, "output_tokens": 5, "total_tokens": 12},
    "anthropic": {"input_tokens": 7, "output_tokens": 5},
    "gemini": {"promptTokenCount": 7, "candidatesTokenCount": 5, "totalTokenCount": 12},
}
ABSENT = object()
"""The value of `usage` for a response that does not report usage."""


def connect(project: Project, format: str, upstream: LocalUpstream) -> None:
    """Create a credential for the local upstream if the operator's account has another format."""
    if ACCOUNTS[format] == "other":
        stored = Credential(
            project=project, slug="other", provider=format, base_url=upstream.url.removesuffix("/v1")
        )
        stored.set_secret("sk-provider-secret")
        stored.save()


def ask(
    gateway: LiveGateway,
    token: str,
    format: str,
    *,
    stream: bool,
    limit: int | None = None,
    provider_format: str | None = None,
    model: str = "",
    post: Callable[..., httpx.Response] = httpx.post,
) -> httpx.Response:
    """Send one prompt in a format to a model, or to a provider of `provider_format` (default: the same)."""
    model = model or f"{ACCOUNTS[provider_format or format]}/{MODELS[provider_format or format]}"
    limits = {} if limit is None else {LIMITS[format]: limit}
    headers = {"authorization": f"Bearer {token}"}
    if format == "gemini":
        verb = "streamGenerateContent?alt=sse" if stream else "generateContent"
        contents: Json = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}
        body = contents | ({"generationConfig": limits} if limits else {})
        return post(f"{gateway.url}/v1beta/models/{model}:{verb}", json=body, headers=headers, timeout=20)
    prompt: Json = (
        {"input": "Hi"} if format == "openai_responses" else {"messages": [{"role": "user", "content": "Hi"}]}
    )
    payload: Json = {"model": model, "stream": stream, **prompt, **limits}
    return post(f"{gateway.url}{PATHS[format]}", json=payload, headers=headers, timeout=20)


def respond_with_text(format: str, text: str, usage: Any = ABSENT, *, pieces: int = 1) -> Callable[..., Any]:
    """Return a handler that responds with `text`. In a stream, the text is sent `pieces` times."""

    async def respond(request: web.Request, body: Json) -> web.StreamResponse:
        if body.get("stream") or "streamGenerateContent" in request.path:
            response = web.StreamResponse(headers={"content-type": "text/event-stream"})
            await response.prepare(request)
            for piece in STREAMS[format](text, usage, pieces):
                await response.write(piece)
                await asyncio.sleep(0.001)
            return response
        return web.json_response(RESPONSES[format](text) | usage_field(format, usage))

    return respond


def usage_field(format: str, usage: Any) -> Json:
    return {} if usage is ABSENT else {USAGE_FIELDS[format]: usage}


def chat_response(text: str) -> Json:
    message = {"role": "assistant", "content": text}
    return {
        "id": "c",
        "object": "chat.completion",
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
    }


def responses_response(text: str) -> Json:
    content = [{"type": "output_text", "text": text, "annotations": []}] if text else []
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": content}
    return {"id": "resp_1", "object": "response", "status": "completed", "model": "m", "output": [item]}


def anthropic_response(text: str) -> Json:
    content = [{"type": "text", "text": text}] if text else []
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": content,
        "stop_reason": "end_turn",
    }


def gemini_response(text: str) -> Json:
    parts = {"parts": [{"text": text}]} if text else {}
    return {
        "candidates": [{"index": 0, "content": {"role": "model", **parts}, "finishReason": "STOP"}],
        "modelVersion": "m",
    }


def event(**fields: Any) -> bytes:
    name = f"event: {fields['type']}\n" if "type" in fields else ""
    return f"{name}data: {json.dumps(fields)}\n\n".encode()


def chat_stream(text: str, usage: Any, pieces: int) -> list[bytes]:
    def chunk(delta: Json, finish: str | None = None) -> bytes:
        choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
        return event(id="c", object="chat.completion.chunk", model="m", choices=choices)

    last = [
        event(
            id="c", object="chat.completion.chunk", model="m", choices=[], **usage_field("openai_chat", usage)
        )
    ]
    return [
        *[chunk({"content": text})] * pieces,
        chunk({}, "stop"),
        *([] if usage is ABSENT else last),
        b"data: [DONE]\n\n",
    ]


def responses_stream(text: str, usage: Any, pieces: int) -> list[bytes]:
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
    part = {"type": "output_text", "text": "", "annotations": []}
    at = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    deltas = [event(type="response.output_text.delta", delta=text, logprobs=[], **at)] * (
        pieces if text else 0
    )
    return [
        event(
            type="response.created",
            response=responses_response("") | {"status": "in_progress", "output": [], "usage": None},
        ),
        event(type="response.output_item.added", output_index=0, item=item),
        event(type="response.content_part.added", part=part, **at),
        *deltas,
        event(
            type="response.completed",
            response=responses_response(text * pieces) | usage_field("openai_responses", usage),
        ),
    ]


def anthropic_stream(text: str, usage: Any, pieces: int) -> list[bytes]:
    """Return a stream in Anthropic's format, which reports the input at its start and `usage` at its end."""
    start = anthropic_response("") | {"stop_reason": None, "usage": {"input_tokens": 7, "output_tokens": 1}}
    deltas = [event(type="content_block_delta", index=0, delta={"type": "text_delta", "text": text})] * (
        pieces if text else 0
    )
    return [
        event(type="message_start", message=start),
        event(type="content_block_start", index=0, content_block={"type": "text", "text": ""}),
        *deltas,
        event(type="content_block_stop", index=0),
        event(type="message_delta", delta={"stop_reason": "end_turn"}, **usage_field("anthropic", usage)),
        event(type="message_stop"),
    ]


def gemini_stream(text: str, usage: Any, pieces: int) -> list[bytes]:
    chunk: Json = gemini_response(text)
    open_ended = {**chunk, "candidates": [{**chunk["candidates"][0], "finishReason": None}]}
    return [
        *[event(**open_ended)] * (pieces if text else 0),
        event(**gemini_response(""), **usage_field("gemini", usage)),
    ]


RESPONSES: dict[str, Callable[[str], Json]] = {
    "openai_chat": chat_response,
    "openai_responses": responses_response,
    "anthropic": anthropic_response,
    "gemini": gemini_response,
}
STREAMS: dict[str, Callable[[str, Any, int], list[bytes]]] = {
    "openai_chat": chat_stream,
    "openai_responses": responses_stream,
    "anthropic": anthropic_stream,
    "gemini": gemini_stream,
}
