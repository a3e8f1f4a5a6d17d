"""The official SDKs send requests through the running gateway to providers of each format.

Each SDK uses its own format. A local upstream is the provider. The demo model is tested with each SDK too.
"""

import json
from typing import Any

import anthropic
import httpx
import openai
import pytest
from google import genai
from google.genai import types

from tests.support.live_gateway import LiveGateway, only_record
from tests.support.sdks import (
    CHAT_TOOL,
    CONFIG,
    RESPONSES_TOOL,
    TOOL,
    assert_charged,
    both_ways,
    but_responses,
    everywhere,
    expected,
    gemini_sdk,
)

pytestmark = pytest.mark.databases

# A provider with the Responses API also has chat completions, which clients of chat completions get.


@everywhere
@both_ways
def test_anthropic(
    anthropic_client: anthropic.Anthropic, scenario: str, provider_model: str, stream: bool
) -> None:
    arguments: Any = {
        "model": provider_model,
        "max_tokens": 200,
        "messages": [{"role": "user", "content": "Hi"}],
        "tools": [TOOL],
    }
    if stream:
        with anthropic_client.messages.stream(**arguments) as running:
            message = running.get_final_message()
    else:
        message = anthropic_client.messages.create(**arguments)
    text = "".join(block.text for block in message.content if block.type == "text")
    calls = [(block.name, block.input) for block in message.content if block.type == "tool_use"]
    assert (text, calls) == expected(scenario)
    assert message.stop_reason == ("tool_use" if calls else "end_turn")
    assert (
        message.usage.input_tokens,
        message.usage.cache_read_input_tokens,
        message.usage.output_tokens,
    ) == (60, 40, 20)
    assert_charged(stream)


@everywhere
@both_ways
def test_gemini(gemini_client: genai.Client, scenario: str, provider_model: str, stream: bool) -> None:
    arguments: Any = {"model": provider_model, "contents": "Hi", "config": CONFIG}
    responses = (
        list(gemini_client.models.generate_content_stream(**arguments))
        if stream
        else [gemini_client.models.generate_content(**arguments)]
    )
    candidates = [candidate for response in responses for candidate in response.candidates or []]
    parts = [part for candidate in candidates if candidate.content for part in candidate.content.parts or []]
    calls = [(part.function_call.name, part.function_call.args) for part in parts if part.function_call]
    assert ("".join(part.text or "" for part in parts), calls) == expected(scenario)
    usage = responses[-1].usage_metadata
    assert usage is not None
    assert (usage.prompt_token_count, usage.cached_content_token_count) == (100, 40)
    assert_charged(stream)


@everywhere
@both_ways
def test_openai_responses(
    openai_client: openai.OpenAI, scenario: str, provider_model: str, stream: bool
) -> None:
    arguments: Any = {
        "model": provider_model,
        "input": "Hi",
        "tools": [RESPONSES_TOOL],
        "max_output_tokens": 200,
    }
    if stream:
        *_, last = openai_client.responses.create(**arguments, stream=True)
        response = last.response
    else:
        response = openai_client.responses.create(**arguments)
    calls = [
        (item.name, json.loads(item.arguments)) for item in response.output if item.type == "function_call"
    ]
    assert (response.output_text, calls) == expected(scenario)
    assert (
        response.status,
        response.usage.input_tokens,
        response.usage.input_tokens_details.cached_tokens,
    ) == ("completed", 100, 40)
    assert_charged(stream)


@but_responses
@both_ways
def test_openai_chat(openai_client: openai.OpenAI, scenario: str, stream: bool) -> None:
    arguments: Any = {
        "model": "other/m",
        "messages": [{"role": "user", "content": "Hi"}],
        "tools": [CHAT_TOOL],
    }
    if stream:
        with openai_client.chat.completions.stream(
            **arguments, stream_options={"include_usage": True}
        ) as running:
            completion = running.get_final_completion()
    else:
        completion = openai_client.chat.completions.create(**arguments)
    message = completion.choices[0].message
    calls = [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls or []]
    assert (message.content or "", calls) == expected(scenario)
    assert completion.usage is not None and completion.usage.prompt_tokens_details is not None
    assert (completion.usage.prompt_tokens, completion.usage.prompt_tokens_details.cached_tokens) == (100, 40)
    assert_charged(stream)


@pytest.mark.parametrize("provider_format", ["anthropic"], indirect=True)
def test_error_in_passthrough_stream_is_forwarded_and_recorded(
    live_gateway: LiveGateway, interrupted_upstream: bytes, provider_key: str
) -> None:
    body = {
        "model": "other/m",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
    }
    response = httpx.post(
        f"{live_gateway.url}/anthropic/v1/messages", json=body, headers={"x-api-key": provider_key}
    )
    assert (response.status_code, response.headers["content-type"], response.content) == (
        200,
        "text/event-stream",
        interrupted_upstream,
    )
    record = only_record()
    assert (record.outcome, record.status_code, record.error) == ("upstream_error", 502, "upstream_status")


@pytest.mark.parametrize("provider_format", ["anthropic"], indirect=True)
def test_error_in_converted_stream_uses_the_client_format(
    live_gateway: LiveGateway, interrupted_upstream: bytes, provider_key: str
) -> None:
    body = {"model": "other/m", "input": "Hi", "stream": True}
    headers = {"authorization": f"Bearer {provider_key}", "x-request-id": "req_mine"}
    response = httpx.post(f"{live_gateway.url}/openai/v1/responses", json=body, headers=headers)
    received = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: ")]
    assert [event["type"] for event in received[-2:]] == ["error", "response.failed"]
    assert [event["sequence_number"] for event in received] == list(range(len(received)))
    assert (received[-2]["error"]["message"], received[-2]["error"]["request_id"]) == (
        "Too busy.",
        "req_mine",
    )
    assert only_record().outcome == "upstream_error"


def test_the_demo_model_answers_an_anthropic_client(live_gateway: LiveGateway, token: str) -> None:
    with anthropic.Anthropic(base_url=live_gateway.url, api_key=token) as client:
        response = client.messages.create(
            model="demo/chat", max_tokens=5, messages=[{"role": "user", "content": "Hi"}]
        )
        assert response.usage.output_tokens == 5
        assert (
            client.messages.count_tokens(
                model="demo/chat", messages=[{"role": "user", "content": "Hi"}]
            ).input_tokens
            > 0
        )


def test_the_demo_model_answers_a_gemini_client(live_gateway: LiveGateway, token: str) -> None:
    with gemini_sdk(live_gateway, token) as client:
        response = client.models.generate_content(
            model="demo/chat", contents="Hi", config=types.GenerateContentConfig(max_output_tokens=5)
        )
        assert response.usage_metadata is not None and response.usage_metadata.candidates_token_count == 5
        assert (client.models.count_tokens(model="demo/chat", contents="Hi").total_tokens or 0) > 0


def test_the_demo_model_answers_a_responses_client(live_gateway: LiveGateway, token: str) -> None:
    with openai.OpenAI(base_url=f"{live_gateway.url}/v1", api_key=token) as client:
        response = client.responses.create(model="demo/chat", input="Hi", max_output_tokens=16)
        assert (
            response.status == "incomplete"
            and response.usage is not None
            and response.usage.output_tokens == 16
        )


def test_every_sdk_lists_the_models(live_gateway: LiveGateway, token: str) -> None:
    with openai.OpenAI(base_url=f"{live_gateway.url}/v1", api_key=token) as gpt:
        assert [model.id for model in gpt.models.list()][:2] == ["demo/chat", "demo/embed"]
    with anthropic.Anthropic(base_url=live_gateway.url, api_key=token) as claude:
        assert [model.id for model in claude.models.list()][:2] == ["demo/chat", "demo/embed"]
    with gemini_sdk(live_gateway, token) as client:
        assert [model.name for model in client.models.list()][:2] == ["models/demo/chat", "models/demo/embed"]


def test_errors_have_the_format_of_each_sdk(live_gateway: LiveGateway, transactional_db: None) -> None:
    with (
        anthropic.Anthropic(base_url=live_gateway.url, api_key="wrong", max_retries=0) as claude,
        pytest.raises(anthropic.AuthenticationError, match="not valid") as error,
    ):
        claude.models.list()
    assert error.value.status_code == 401
    with (
        gemini_sdk(live_gateway, "wrong") as client,
        pytest.raises(genai.errors.ClientError, match="UNAUTHENTICATED"),
    ):
        client.models.generate_content(model="demo/chat", contents="Hi")
