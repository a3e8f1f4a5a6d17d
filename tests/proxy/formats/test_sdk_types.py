"""Responses, stream events and upstream requests have the types of the vendors' official SDKs."""

from collections.abc import Callable
from typing import Any

import pytest
from anthropic.types import Message, RawMessageStreamEvent
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from google.genai.types import Content, GenerateContentResponse, GenerationConfig
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from openai.types.responses import Response, ResponseStreamEvent
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from pydantic import TypeAdapter

from tests.proxy.formats.golden.builders import FORMATS, Body
from tests.proxy.formats.golden.cells import (
    REQUESTS,
    RESPONSES,
    converted_response,
    converted_stream,
    pairs,
    read,
)
from tests.proxy.formats.golden.request_client_tools import CLIENT_TOOLS
from tests.proxy.formats.golden.request_server_tools import COUNTERPARTS, OPAQUE_PARTS, SERVER_TOOLS
from tests.proxy.formats.golden.stream_readers import events_of

Check = Callable[[Any], Any]


def of(kind: Any) -> Check:
    return TypeAdapter(kind).validate_python


RESPONSE_CHECKS: dict[str, Check] = {
    "openai_chat": of(ChatCompletion),
    "openai_responses": of(Response),
    "anthropic": of(Message),
    "gemini": of(GenerateContentResponse),
}
EVENT_CHECKS: dict[str, Check] = {
    "openai_chat": of(ChatCompletionChunk),
    "openai_responses": of(ResponseStreamEvent),
    "anthropic": of(RawMessageStreamEvent),
    "gemini": of(GenerateContentResponse),
}
UNTYPED = {("custom tool call", "openai_chat")}
"""Events for which the SDK has no type: calls of custom tools in streams of chat completions."""
RESPONSE_CASES = [
    (scenario, provider, client, body)
    for scenario, bodies in RESPONSES.items()
    for provider, client, body in pairs(bodies)
    if (scenario, provider) != ("parts of unknown types", client)
]
cells = pytest.mark.parametrize(
    ("scenario", "provider", "client", "body"),
    RESPONSE_CASES,
    ids=[f"{name}: {p} > {c}" for name, p, c, _ in RESPONSE_CASES],
)


def test_every_format_has_sdk_types() -> None:
    assert tuple(RESPONSE_CHECKS) == tuple(EVENT_CHECKS) == FORMATS


@cells
def test_response_has_the_sdk_type(scenario: str, provider: str, client: str, body: Body) -> None:
    RESPONSE_CHECKS[client](converted_response(client, provider, body))


@cells
def test_stream_events_have_the_sdk_type(scenario: str, provider: str, client: str, body: Body) -> None:
    for event in events_of(converted_stream(client, provider, body)):
        if (scenario, client) not in UNTYPED:
            EVENT_CHECKS[client](event)


# Requests -----------------------------------------------------------------------------------------


CHAT_REQUEST_TYPE, RESPONSES_REQUEST_TYPE, MESSAGES_REQUEST_TYPE = (
    of(kind)
    for kind in (
        CompletionCreateParamsNonStreaming,
        ResponseCreateParamsNonStreaming,
        MessageCreateParamsNonStreaming,
    )
)


def exhausted(value: Any) -> Any:
    """Read all iterables, because Pydantic validates their items only then."""
    match value:
        case dict():
            return {name: exhausted(item) for name, item in value.items()}
        case str() | bytes() | int() | float() | None:
            return value
        case _:
            return list(map(exhausted, value))


def check_gemini(body: Body) -> None:
    for content in body["contents"]:
        Content.model_validate(content)
    GenerationConfig.model_validate(body.get("generationConfig", {}))


def check_responses(body: Body) -> None:
    """Check a request without ids.

    The SDK's types of messages and thinking require them, but the API does not.

    A client that stores its own history does not have these ids.
    """
    items = [
        item for item in body["input"] if item.get("role") != "assistant" and item["type"] != "reasoning"
    ]
    exhausted(RESPONSES_REQUEST_TYPE(body | {"input": items}))


OWN_FEATURES = {
    *CLIENT_TOOLS,
    *SERVER_TOOLS,
    *OPAQUE_PARTS,
    *COUNTERPARTS,
}
"""Scenarios with types that the SDK does not know, because they pass unchanged to the client's vendor."""
REQUEST_CHECKS: dict[str, Check] = {
    "openai_chat": lambda body: exhausted(CHAT_REQUEST_TYPE(body)),
    "openai_responses": check_responses,
    "anthropic": lambda body: exhausted(MESSAGES_REQUEST_TYPE(body)),
    "gemini": check_gemini,
}


@pytest.mark.parametrize("provider", FORMATS)
@pytest.mark.parametrize("scenario", REQUESTS)
def test_upstream_request_has_the_sdk_type(scenario: str, provider: str) -> None:
    for (sender, receiver), cell in read("requests", scenario).items():
        is_own = sender == receiver and scenario in OWN_FEATURES
        if receiver == provider and "request" in cell and not is_own:
            REQUEST_CHECKS[provider](
                {
                    name: value
                    for name, value in cell["request"].items()
                    if name not in ("stream", "stream_options")
                }
            )
