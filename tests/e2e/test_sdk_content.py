"""Signatures of thinking and images pass through each official SDK, to providers of each format."""

import base64
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai import types

from proxy.formats.json_body import parse_object
from proxy.formats.neutral import (
    Image,
    Part,
    Request,
    Thinking,
    ToolCall,
    ToolResult,
)
from proxy.formats.registry import CODECS
from tests.proxy.formats.scenarios import CALL, PIXEL
from tests.support.sdks import (
    CHAT_TOOL,
    CONFIG,
    RESPONSES_TOOL,
    SIGNATURE,
    TOOL,
    both_ways,
    but_responses,
    everywhere,
    signing_formats,
)
from tests.support.upstream_server import LocalUpstream

QUESTION: Any = {"role": "user", "content": "Hi"}


def request_parts(upstream: LocalUpstream, format: str) -> list[Part]:
    """Return the parts of the last request that the provider received."""
    request: Request = CODECS[format].parse_request(parse_object(upstream.requests[-1].body), "m", False)
    return [part for message in request.messages for part in message.parts]


def assert_signature_returned(upstream: LocalUpstream, format: str) -> None:
    parts = request_parts(upstream, format)
    assert [part.signature for part in parts if isinstance(part, Thinking | ToolCall) and part.signature] == [
        SIGNATURE
    ]
    assert [part.call_id for part in parts if isinstance(part, ToolResult)] == ["call_1"]


@signing_formats
@both_ways
def test_anthropic_round_trips_a_signature(
    anthropic_client: anthropic.Anthropic,
    thinking_upstream: LocalUpstream,
    provider_format: str,
    provider_model: str,
    stream: bool,
) -> None:
    arguments: Any = {"model": provider_model, "max_tokens": 200, "tools": [TOOL]}
    if stream:
        with anthropic_client.messages.stream(**arguments, messages=[QUESTION]) as running:
            message = running.get_final_message()
    else:
        message = anthropic_client.messages.create(**arguments, messages=[QUESTION])
    assert "Hm." in [block.thinking for block in message.content if block.type == "thinking"]
    result: Any = {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": "Sun"}],
    }
    anthropic_client.messages.create(
        **arguments, messages=[QUESTION, {"role": "assistant", "content": message.content}, result]
    )
    assert_signature_returned(thinking_upstream, provider_format)


@signing_formats
@both_ways
def test_gemini_round_trips_a_signature(
    gemini_client: genai.Client,
    thinking_upstream: LocalUpstream,
    provider_format: str,
    provider_model: str,
    stream: bool,
) -> None:
    arguments: Any = {"model": provider_model, "config": CONFIG}
    models = gemini_client.models
    responses = (
        list(models.generate_content_stream(**arguments, contents="Hi"))
        if stream
        else [models.generate_content(**arguments, contents="Hi")]
    )
    contents = [
        candidate.content
        for response in responses
        for candidate in response.candidates or []
        if candidate.content
    ]
    parts = [part for content in contents for part in content.parts or []]
    assert "".join(part.text or "" for part in parts if part.thought) == "Hm."
    question = types.Content(role="user", parts=[types.Part(text="Hi")])
    response = types.FunctionResponse(id="call_1", name=CALL.name, response={"result": "Sun"})
    result = types.Content(role="user", parts=[types.Part(function_response=response)])
    models.generate_content(
        **arguments, contents=[question, types.Content(role="model", parts=parts), result]
    )
    assert_signature_returned(thinking_upstream, provider_format)


@signing_formats
@both_ways
def test_openai_responses_round_trips_a_signature(
    openai_client: openai.OpenAI,
    thinking_upstream: LocalUpstream,
    provider_format: str,
    provider_model: str,
    stream: bool,
) -> None:
    arguments: Any = {"model": provider_model, "tools": [RESPONSES_TOOL], "max_output_tokens": 200}
    if stream:
        *_, last = openai_client.responses.create(**arguments, input="Hi", stream=True)
        response = last.response
    else:
        response = openai_client.responses.create(**arguments, input="Hi")
    assert "Hm." in [
        text.text for item in response.output if item.type == "reasoning" for text in item.summary
    ]
    result: Any = {"type": "function_call_output", "call_id": "call_1", "output": "Sun"}
    openai_client.responses.create(**arguments, input=[QUESTION, *response.output, result])
    assert_signature_returned(thinking_upstream, provider_format)


@pytest.mark.parametrize("provider_format", ["anthropic", "gemini"], indirect=True)
@both_ways
def test_openai_chat_round_trips_a_signature(
    openai_client: openai.OpenAI, thinking_upstream: LocalUpstream, provider_format: str, stream: bool
) -> None:
    arguments: Any = {"model": "other/m", "tools": [CHAT_TOOL]}
    if stream:
        with openai_client.chat.completions.stream(**arguments, messages=[QUESTION]) as running:
            message: Any = running.get_final_completion().choices[0].message
    else:
        message = openai_client.chat.completions.create(**arguments, messages=[QUESTION]).choices[0].message
    assert message.reasoning_content == "Hm."
    result: Any = {"role": "tool", "tool_call_id": "call_1", "content": "Sun"}
    openai_client.chat.completions.create(
        **arguments, messages=[QUESTION, message.model_dump(exclude_none=True), result]
    )
    assert_signature_returned(thinking_upstream, provider_format)


def assert_image_received(upstream: LocalUpstream, format: str) -> None:
    assert [part.data for part in request_parts(upstream, format) if isinstance(part, Image)] == [PIXEL]


@everywhere
def test_anthropic_sends_an_image(
    anthropic_client: anthropic.Anthropic,
    image_upstream: LocalUpstream,
    provider_format: str,
    provider_model: str,
) -> None:
    source: Any = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    anthropic_client.messages.create(
        model=provider_model,
        max_tokens=9,
        messages=[{"role": "user", "content": [{"type": "image", "source": source}]}],
    )
    assert_image_received(image_upstream, provider_format)


@everywhere
def test_gemini_sends_an_image(
    gemini_client: genai.Client, image_upstream: LocalUpstream, provider_format: str, provider_model: str
) -> None:
    gemini_client.models.generate_content(
        model=provider_model,
        contents=types.Part.from_bytes(data=base64.b64decode(PIXEL), mime_type="image/png"),
    )
    assert_image_received(image_upstream, provider_format)


@everywhere
def test_openai_responses_sends_an_image(
    openai_client: openai.OpenAI, image_upstream: LocalUpstream, provider_format: str, provider_model: str
) -> None:
    image: Any = {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "auto"}
    openai_client.responses.create(model=provider_model, input=[{"role": "user", "content": [image]}])
    assert_image_received(image_upstream, provider_format)


@but_responses
def test_openai_chat_sends_an_image(
    openai_client: openai.OpenAI, image_upstream: LocalUpstream, provider_format: str
) -> None:
    image: Any = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    openai_client.chat.completions.create(model="other/m", messages=[{"role": "user", "content": [image]}])
    assert_image_received(image_upstream, provider_format)
