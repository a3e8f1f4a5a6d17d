"""Requests and responses with ids of objects of an account, for the tests of this folder."""

import json
import time
from typing import Any

import httpx
from aiohttp import web
from django.conf import settings

from projects.models import Project
from proxy.models import IssuedId
from proxy.routing import accounts, config_file
from tests.support.upstream_server import chunk

RESPONSES, CHAT, MESSAGES = "/v1/responses", "/v1/chat/completions", "/v1/messages"
COUNT, GENERATE, STREAMED = (
    "/v1/messages/count_tokens",
    "/v1beta/models/{}:generateContent",
    "/v1beta/models/{}:streamGenerateContent?alt=sse",
)
MODELS = {
    RESPONSES: "gpt-4o",
    CHAT: "gpt-4o",
    MESSAGES: "claude-sonnet-4-5",
    COUNT: "claude-sonnet-4-5",
    GENERATE: "gemini-2.5-flash",
}
USAGE = {"input_tokens": 3, "output_tokens": 2}
CITED = [{"type": "container_file_citation", "container_id": "cntr_1", "file_id": "cfile_1"}]
OUTPUT: list[dict[str, Any]] = [
    {"type": "reasoning", "id": "rs_1", "summary": []},
    {"type": "image_generation_call", "id": "ig_1", "status": "completed"},
    {"type": "mcp_approval_request", "id": "mcpr_1", "name": "n", "arguments": "{}", "server_label": "s"},
    {
        "type": "code_interpreter_call",
        "id": "ci_1",
        "container_id": "cntr_1",
        "code": "1",
        "status": "completed",
    },
    {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "Hi", "annotations": CITED}],
    },
]
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "status": "completed",
    "conversation": {"id": "conv_1"},
    "output": OUTPUT,
    "usage": USAGE,
}
AUDIO = {"id": "audio_1", "data": "AAAA", "transcript": "Hi"}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "content": [{"type": "text", "text": "Hi"}],
    "container": {"id": "container_1", "expires_at": "2027-01-01T00:00:00Z"},
    "usage": USAGE,
}


def input_of(*items: Any, **fields: Any) -> dict[str, Any]:
    return {"input": list(items), **fields}


def said(*content: Any, role: str = "user", **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": list(content)}], "max_tokens": 9, **fields}


def parts(*given: Any, **fields: Any) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": list(given)}], **fields}


CODE = {"type": "code_interpreter"}
ISSUED: dict[str, tuple[str, dict[str, Any]]] = {
    "previous_response_id": (RESPONSES, {"input": "Hi", "previous_response_id": "resp_1"}),
    "conversation": (RESPONSES, {"input": "Hi", "conversation": "conv_1"}),
    "conversation object": (RESPONSES, {"input": "Hi", "conversation": {"id": "conv_1"}}),
    "item_reference": (RESPONSES, input_of({"type": "item_reference", "id": "msg_1"})),
    "item without a type": (RESPONSES, input_of({"id": "msg_1"})),
    "reasoning": (RESPONSES, input_of({"type": "reasoning", "id": "rs_1", "summary": []})),
    "picture": (RESPONSES, input_of({"type": "image_generation_call", "id": "ig_1"})),
    "approval": (
        RESPONSES,
        input_of({"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True}),
    ),
    "code container": (RESPONSES, {"input": "Hi", "tools": [CODE | {"container": "cntr_1"}]}),
    "history of code": (RESPONSES, input_of(*OUTPUT)),
    "audio": (
        CHAT,
        {"messages": [{"role": "assistant", "audio": {"id": "audio_1"}}, {"role": "user", "content": "Hi"}]},
    ),
    "container": (MESSAGES, said({"type": "text", "text": "Hi"}, container="container_1")),
    "container object": (MESSAGES, said({"type": "text", "text": "Hi"}, container={"id": "container_1"})),
    "thread": (
        MESSAGES,
        said({"type": "text", "text": "Hi"}, thread={"type": "continue", "previous_message_id": "msg_1"}),
    ),
}
"""Requests that name ids in the responses of `answer`."""
FILE = {"type": "file", "file_id": "file_1"}
STORED_FILE = {
    "fileData": {
        "fileUri": "https://generativelanguage.googleapis.com/v1beta/files/abc",
        "mimeType": "text/plain",
    }
}
UPLOADED: dict[str, tuple[str, dict[str, Any]]] = {
    "file": (RESPONSES, input_of({"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]})),
    "picture": (
        RESPONSES,
        input_of({"role": "user", "content": [{"type": "input_image", "file_id": "file-1"}]}),
    ),
    "vector store": (
        RESPONSES,
        {"input": "Hi", "tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]},
    ),
    "file for code": (
        RESPONSES,
        {"input": "Hi", "tools": [CODE | {"container": {"type": "auto", "file_ids": ["file-1"]}}]},
    ),
    "prompt": (RESPONSES, {"input": "Hi", "prompt": {"id": "pmpt_1"}}),
    "chat file": (CHAT, said({"type": "file", "file": {"file_id": "file-1"}})),
    "voice": (
        CHAT,
        said({"type": "text", "text": "Hi"}, audio={"format": "mp3", "voice": {"id": "voice_1"}}),
    ),
    "document": (MESSAGES, said({"type": "document", "source": FILE})),
    "image": (MESSAGES, said({"type": "image", "source": FILE})),
    "upload": (MESSAGES, said({"type": "container_upload", "file_id": "file_1"})),
    "counted document": (COUNT, said({"type": "document", "source": FILE})),
    "skill": (
        MESSAGES,
        said(
            {"type": "text", "text": "Hi"}, container={"skills": [{"type": "custom", "skill_id": "skill_1"}]}
        ),
    ),
    "cached content": (GENERATE, parts({"text": "Hi"}, cachedContent="cachedContents/1")),
    "cached_content": (GENERATE, parts({"text": "Hi"}, cached_content="cachedContents/1")),
    "Google's file": (GENERATE, parts(STORED_FILE)),
    "streamed": (STREAMED, parts(STORED_FILE)),
    "storage": (GENERATE, parts({"file_data": {"file_uri": "gs://bucket/object"}})),
    "counted": ("/v1beta/models/{}:countTokens", parts(STORED_FILE)),
    "embedded": ("/v1beta/models/{}:embedContent", {"content": {"parts": [STORED_FILE]}}),
    "embedded batch": (
        "/v1beta/models/{}:batchEmbedContents",
        {"requests": [{"model": "models/gemini-2.5-flash", "content": {"parts": [STORED_FILE]}}]},
    ),
}
NOT_FOUND = {
    RESPONSES: "invalid_request",
    CHAT: "invalid_request",
    MESSAGES: "not_found_error",
    COUNT: "not_found_error",
}


async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Respond as each vendor does, with ids of all kinds."""
    if body.get("stream"):
        return await stream(request, events_of(request.path))
    if request.path.endswith("/responses"):
        return web.json_response(RESPONSE)
    if request.path.endswith("/messages"):
        return web.json_response(MESSAGE)
    if request.path.endswith("/chat/completions"):
        audio = AUDIO | {"expires_at": int(time.time()) + 3600}
        choice = {"index": 0, "message": {"role": "assistant", "audio": audio}, "finish_reason": "stop"}
        return web.json_response({"id": "c", "object": "chat.completion", "model": "m", "choices": [choice]})
    return web.json_response(
        {"candidates": [{"content": {"parts": [{"text": "Hi"}]}, "finishReason": "STOP"}]}
    )


async def stream(request: web.Request, events: list[bytes]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for event in events:
        await response.write(event)
    return response


def event(kind: str, **fields: Any) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), json.dumps({"type": kind, **fields}).encode())


def events_of(path: str) -> list[bytes]:
    if path.endswith("/responses"):
        begun = event("response.created", response={"id": "resp_1", "output": []})
        text = event("response.output_text.delta", item_id="msg_1", delta="Hi")
        items = [event("response.output_item.done", item=item) for item in OUTPUT]
        return [begun, text, *items, event("response.completed", response=RESPONSE)]
    if path.endswith("/messages"):
        started = event("message_start", message=MESSAGE | {"container": None, "content": []})
        text = event("content_block_delta", index=0, delta={"type": "text_delta", "text": "Hi"})
        ended = event(
            "message_delta", delta={"stop_reason": "end_turn", "container": MESSAGE["container"]}, usage=USAGE
        )
        return [started, text, ended, event("message_stop")]
    audio = [{"id": "audio_1"}, {"data": "AAAA"}, {"expires_at": int(time.time()) + 3600}]
    return [*(chunk({"audio": piece}) for piece in audio), chunk({}, "stop"), b"data: [DONE]\n\n"]


BEGIN: dict[str, dict[str, Any]] = {
    RESPONSES: {"input": "Hi"},
    CHAT: said({"type": "text", "text": "Hi"}, audio={"format": "wav", "voice": "alloy"}),
    MESSAGES: said({"type": "text", "text": "Hi"}, thread={"type": "create"}),
}
"""A request in each format whose response contains ids."""


def configure(**changes: Any) -> None:
    settings.ENV = settings.ENV.model_copy(update=changes)
    config_file.load.cache_clear()
    accounts.load_operator_accounts.cache_clear()


def post(
    client: httpx.Client, path: str, body: dict[str, Any], model: str = "", **fields: Any
) -> httpx.Response:
    named = model or MODELS.get(path, MODELS[GENERATE])
    if "{}" in path:
        return client.post(path.format(named), json=body | fields)
    return client.post(path, json={"model": named} | body | fields)


def begin(client: httpx.Client, path: str, **fields: Any) -> httpx.Response:
    issuing = post(client, path, BEGIN[path], **fields)
    assert issuing.status_code == 200, issuing.text
    return issuing


def error_of(response: httpx.Response, path: str) -> dict[str, Any]:
    assert response.status_code == 404, response.text
    error: dict[str, Any] = response.json()["error"]
    if path in NOT_FOUND:
        assert error["type"] == NOT_FOUND[path]
    else:
        assert (error["code"], error["status"]) == (404, "NOT_FOUND")
    return error


def issued_id(project: Project, number: int, **fields: Any) -> IssuedId:
    return IssuedId(project=project, account="openai", kind="response", digest=f"{number:064}", **fields)
