"""The official SDKs read cached responses, whether these were fetched as a stream or not."""

import json
from typing import Any

import anthropic
import openai
import pytest
from google import genai

from billing.models import UsageRecord
from projects.models import Project
from tests.support.live_gateway import only_record
from tests.support.sdks import CHAT_TOOL, CONFIG, RESPONSES_TOOL, TOOL, both_ways, expected
from tests.support.upstream_server import LocalUpstream

pytestmark = pytest.mark.parametrize("provider_format", ["anthropic"], indirect=True)
MESSAGES: Any = [{"role": "user", "content": "Hi"}]
Answer = tuple[str, list[tuple[str, Any]]]


@pytest.fixture(autouse=True)
def caching_project(demo_project: Project) -> None:
    Project.objects.filter(pk=demo_project.pk).update(caches_responses=True)


def assert_fetched_once(upstream: LocalUpstream, scenario: str, answers: list[Answer]) -> None:
    assert answers == [expected(scenario)] * 2
    _text, calls = expected(scenario)
    if calls:
        assert len(upstream.requests) == 2, "a response with tool calls is not stored"
        return
    assert len(upstream.requests) == 1
    hit = only_record(2)
    fetched = UsageRecord.objects.exclude(pk=hit.pk).get()
    assert (fetched.outcome, hit.outcome, hit.saved_nano) == ("ok", "cached", fetched.cost_nano)


def ask_anthropic(client: anthropic.Anthropic, model: str, *, stream: bool) -> Answer:
    arguments: Any = {"model": model, "max_tokens": 200, "messages": MESSAGES, "tools": [TOOL]}
    if stream:
        with client.messages.stream(**arguments) as running:
            message = running.get_final_message()
    else:
        message = client.messages.create(**arguments)
    assert message.usage.output_tokens == 20
    text = "".join(block.text for block in message.content if block.type == "text")
    return text, [(block.name, block.input) for block in message.content if block.type == "tool_use"]


def ask_gemini(client: genai.Client, model: str, *, stream: bool) -> Answer:
    arguments: Any = {"model": model, "contents": "Hi", "config": CONFIG}
    responses = (
        list(client.models.generate_content_stream(**arguments))
        if stream
        else [client.models.generate_content(**arguments)]
    )
    candidates = [candidate for response in responses for candidate in response.candidates or []]
    parts = [part for candidate in candidates if candidate.content for part in candidate.content.parts or []]
    calls = [(part.function_call.name, part.function_call.args) for part in parts if part.function_call]
    return "".join(part.text or "" for part in parts), calls  # type: ignore[return-value]


def ask_responses(client: openai.OpenAI, model: str, *, stream: bool) -> Answer:
    arguments: Any = {"model": model, "input": "Hi", "tools": [RESPONSES_TOOL], "max_output_tokens": 200}
    if stream:
        *_, last = client.responses.create(**arguments, stream=True)
        response = last.response
    else:
        response = client.responses.create(**arguments)
    calls = [
        (item.name, json.loads(item.arguments)) for item in response.output if item.type == "function_call"
    ]
    return response.output_text, calls


def ask_chat(client: openai.OpenAI, model: str, *, stream: bool) -> Answer:
    arguments: Any = {"model": model, "messages": MESSAGES, "tools": [CHAT_TOOL]}
    if stream:
        with client.chat.completions.stream(**arguments) as running:
            completion: Any = running.get_final_completion()
    else:
        completion = client.chat.completions.create(**arguments)
    message = completion.choices[0].message
    calls = [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls or []]
    return message.content or "", calls


@both_ways
def test_anthropic(
    anthropic_client: anthropic.Anthropic,
    scenario: str,
    provider_model: str,
    upstream: LocalUpstream,
    stream: bool,
) -> None:
    asked = (stream, not stream)
    answers = [ask_anthropic(anthropic_client, provider_model, stream=each) for each in asked]
    assert_fetched_once(upstream, scenario, answers)


@both_ways
def test_gemini(
    gemini_client: genai.Client, scenario: str, provider_model: str, upstream: LocalUpstream, stream: bool
) -> None:
    answers = [ask_gemini(gemini_client, provider_model, stream=each) for each in (stream, not stream)]
    assert_fetched_once(upstream, scenario, answers)


@both_ways
def test_openai_responses(
    openai_client: openai.OpenAI, scenario: str, provider_model: str, upstream: LocalUpstream, stream: bool
) -> None:
    answers = [ask_responses(openai_client, provider_model, stream=each) for each in (stream, not stream)]
    assert_fetched_once(upstream, scenario, answers)


@both_ways
def test_openai_chat(
    openai_client: openai.OpenAI, scenario: str, provider_model: str, upstream: LocalUpstream, stream: bool
) -> None:
    answers = [ask_chat(openai_client, provider_model, stream=each) for each in (stream, not stream)]
    assert_fetched_once(upstream, scenario, answers)
