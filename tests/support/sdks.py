"""Providers and requests of the tests with the official SDKs."""

import json
from typing import Any

import pytest
from aiohttp import web
from google import genai
from google.genai import types

from proxy.formats.neutral import (
    Message,
    Request,
    Response,
    Text,
    ToolCall,
)
from proxy.formats.registry import CODECS
from tests.proxy.formats.scenarios import RESPONSES, WEATHER, events
from tests.support.live_gateway import LiveGateway, only_record
from tests.support.upstream_server import Handler

everywhere = pytest.mark.parametrize("provider_format", CODECS, indirect=True)
but_responses = pytest.mark.parametrize(
    "provider_format", ["anthropic", "gemini", "openai_chat"], indirect=True
)
both_ways = pytest.mark.parametrize("stream", [False, True])
SCENARIOS = ("text", "parallel calls")
PROVIDERS = {
    "anthropic": "anthropic",
    "gemini": "gemini",
    "openai_chat": "compatible",
    "openai_responses": "openai",
}
CLIENT_REQUEST = Request(model="m", messages=(Message(role="user", parts=(Text(text="Hi"),)),), stream=True)
SIGNATURE = "c2lnbmVk"
signing_formats = pytest.mark.parametrize(
    "provider_format", ["anthropic", "gemini", "openai_responses"], indirect=True
)
STREAM_ERROR = (
    b"event: error\n"
    b'data: {"type": "error", "error": {"type": "overloaded_error", "message": "Too busy."}}\n\n'
)
TOOL: Any = {"name": WEATHER.name, "description": WEATHER.description, "input_schema": WEATHER.schema}
FUNCTION: Any = {"name": WEATHER.name, "description": WEATHER.description, "parameters": WEATHER.schema}
CHAT_TOOL: Any = {"type": "function", "function": FUNCTION}
RESPONSES_TOOL: Any = {"type": "function", **FUNCTION, "strict": False}
DECLARATION = types.FunctionDeclaration(
    name=WEATHER.name, description=WEATHER.description, parameters_json_schema=WEATHER.schema
)
CONFIG = types.GenerateContentConfig(
    tools=[types.Tool(function_declarations=[DECLARATION])],
    max_output_tokens=200,
    automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
)


def respond_with(codec: Any, neutral_response: Response) -> Handler:
    """Return a provider that sends this response in its format, as a stream if the request asks for one."""

    async def respond(upstream_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if not (body.get("stream") or "streamGenerateContent" in upstream_request.path):
            return web.Response(
                body=codec.render_response(neutral_response, CLIENT_REQUEST), content_type="application/json"
            )
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(upstream_request)
        encoder = codec.StreamEncoder(CLIENT_REQUEST)
        for event in events(neutral_response):
            await response.write(encoder.encode(event))
        await response.write(encoder.finish())
        return response

    return respond


def gemini_sdk(live_gateway: LiveGateway, key: str) -> genai.Client:
    options = types.HttpOptions(
        base_url=live_gateway.url, api_version="v1beta", retry_options=types.HttpRetryOptions(attempts=1)
    )
    return genai.Client(api_key=key, http_options=options)


def expected(name: str) -> tuple[str, list[tuple[str, Any]]]:
    (choice,) = RESPONSES[name].choices
    text = "".join(part.text for part in choice.parts if isinstance(part, Text))
    return text, [
        (part.name, json.loads(part.arguments)) for part in choice.parts if isinstance(part, ToolCall)
    ]


def assert_charged(streamed: bool) -> None:
    record = only_record()
    assert (record.prompt_tokens, record.cache_read_tokens, record.output_tokens) == (100, 40, 20)
    assert record.streamed == streamed and not record.estimated
