"""The official SDKs, each in its own format, against the running gateway, to providers of each format.

The demo model is the provider of OpenAI's format; providers of the other formats are played by a local upstream that answers in
Anthropic's or Gemini's words.
"""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
from aiohttp import web
from django.conf import settings
from google import genai
from google.genai import types
from msgspec.structs import replace

from keys.models import ApiKey
from projects.models import Project
from proxy.formats.neutral import (
    Choice,
    Image,
    Message,
    Part,
    Request,
    Response,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from proxy.models import Credential
from proxy.pipeline.conversion import CODECS
from proxy.routing import config_file
from tests.proxy.formats.scenarios import CALL, PIXEL, RESPONSES, WEATHER, events
from tests.support.live_gateway import LiveGateway, only_record
from tests.support.upstream_server import Handler, LocalUpstream

pytestmark = pytest.mark.databases

# A provider that speaks Responses speaks chat completions as well, which clients of those get.
everywhere = pytest.mark.parametrize("provider_format", CODECS, indirect=True)
but_responses = pytest.mark.parametrize(
    "provider_format", ["anthropic", "gemini", "openai_chat"], indirect=True
)
both_ways = pytest.mark.parametrize("stream", [False, True])
SCENARIOS = ("text", "parallel calls")
FORMATS = {
    "anthropic": "anthropic",
    "gemini": "gemini",
    "openai_chat": "compatible",
    "openai_responses": "openai",
}
CLIENT_REQUEST = Request(model="m", messages=(Message(role="user", parts=(Text(text="Hi"),)),), stream=True)


@pytest.fixture
def provider_format(request: pytest.FixtureRequest) -> str:
    """The format of the provider."""
    format: str = request.param
    return format


def respond_with(codec: Any, neutral_response: Response) -> Handler:
    """A provider that says this, whole or streamed, in its own words."""

    async def answer(asked: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if not (body.get("stream") or "streamGenerateContent" in asked.path):
            return web.Response(
                body=codec.render_response(neutral_response, CLIENT_REQUEST), content_type="application/json"
            )
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(asked)
        encoder = codec.StreamEncoder(CLIENT_REQUEST)
        for event in events(neutral_response):
            await response.write(encoder.encode(event))
        await response.write(encoder.finish())
        return response

    return answer


@pytest.fixture(params=SCENARIOS)
def scenario(request: pytest.FixtureRequest, upstream: LocalUpstream, provider_format: str) -> str:
    name: str = request.param
    upstream.handler = respond_with(CODECS[provider_format], RESPONSES[name])
    return name


@pytest.fixture
def model(provider_format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A model of the provider; of OpenAI's, one that the operator has by the Responses API."""
    config = tmp_path / "gateway.yaml"
    config.write_text("models: [{name: deep, provider: openai, api: responses}]")
    monkeypatch.setattr(settings, "ENV", settings.ENV.model_copy(update={"ai_gateway_config": config}))
    config_file.load.cache_clear()
    yield "deep" if provider_format == "openai_responses" else "other/m"
    config_file.load.cache_clear()


@pytest.fixture
def key(demo_project: Project, upstream: LocalUpstream, provider_format: str) -> str:
    base = upstream.url if provider_format.startswith("openai") else upstream.url.removesuffix("/v1")
    credential = Credential(
        project=demo_project, slug="other", provider=FORMATS[provider_format], base_url=base
    )
    credential.set_secret("sk-provider-secret")
    credential.save()
    return ApiKey.objects.issue(demo_project, "sdk")[1]


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


@pytest.fixture
def anthropic_client(live_gateway: LiveGateway, key: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=live_gateway.url, api_key=key, max_retries=0) as client:
        yield client


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


@everywhere
@both_ways
def test_anthropic(anthropic_client: anthropic.Anthropic, scenario: str, model: str, stream: bool) -> None:
    asked: Any = {
        "model": model,
        "max_tokens": 200,
        "messages": [{"role": "user", "content": "Hi"}],
        "tools": [TOOL],
    }
    if stream:
        with anthropic_client.messages.stream(**asked) as running:
            message = running.get_final_message()
    else:
        message = anthropic_client.messages.create(**asked)
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


def gemini_sdk(live_gateway: LiveGateway, key: str) -> genai.Client:
    options = types.HttpOptions(
        base_url=live_gateway.url, api_version="v1beta", retry_options=types.HttpRetryOptions(attempts=1)
    )
    return genai.Client(api_key=key, http_options=options)


@pytest.fixture
def gemini_client(live_gateway: LiveGateway, key: str) -> Iterator[genai.Client]:
    with gemini_sdk(live_gateway, key) as client:
        yield client


@everywhere
@both_ways
def test_gemini(gemini_client: genai.Client, scenario: str, model: str, stream: bool) -> None:
    asked: Any = {"model": model, "contents": "Hi", "config": CONFIG}
    answers = (
        list(gemini_client.models.generate_content_stream(**asked))
        if stream
        else [gemini_client.models.generate_content(**asked)]
    )
    candidates = [candidate for answer in answers for candidate in answer.candidates or []]
    parts = [part for candidate in candidates if candidate.content for part in candidate.content.parts or []]
    calls = [(part.function_call.name, part.function_call.args) for part in parts if part.function_call]
    assert ("".join(part.text or "" for part in parts), calls) == expected(scenario)
    usage = answers[-1].usage_metadata
    assert usage is not None
    assert (usage.prompt_token_count, usage.cached_content_token_count) == (100, 40)
    assert_charged(stream)


@pytest.fixture
def openai_client(live_gateway: LiveGateway, key: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{live_gateway.url}/v1", api_key=key, max_retries=0) as client:
        yield client


@everywhere
@both_ways
def test_openai_responses(openai_client: openai.OpenAI, scenario: str, model: str, stream: bool) -> None:
    asked: Any = {"model": model, "input": "Hi", "tools": [RESPONSES_TOOL], "max_output_tokens": 200}
    if stream:
        *_, last = openai_client.responses.create(**asked, stream=True)
        response = last.response
    else:
        response = openai_client.responses.create(**asked)
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
    asked: Any = {
        "model": "other/m",
        "messages": [{"role": "user", "content": "Hi"}],
        "tools": [CHAT_TOOL],
    }
    if stream:
        with openai_client.chat.completions.stream(
            **asked, stream_options={"include_usage": True}
        ) as running:
            completion = running.get_final_completion()
    else:
        completion = openai_client.chat.completions.create(**asked)
    message = completion.choices[0].message
    calls = [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls or []]
    assert (message.content or "", calls) == expected(scenario)
    assert completion.usage is not None and completion.usage.prompt_tokens_details is not None
    assert (completion.usage.prompt_tokens, completion.usage.prompt_tokens_details.cached_tokens) == (100, 40)
    assert_charged(stream)


# Thoughts and pictures ----------------------------------------------------------------------------------------------------

SIGNATURE = "c2lnbmVk"
signing_formats = pytest.mark.parametrize(
    "provider_format", ["anthropic", "gemini", "openai_responses"], indirect=True
)
QUESTION: Any = {"role": "user", "content": "Hi"}


@pytest.fixture
def thinking_upstream(upstream: LocalUpstream, provider_format: str) -> LocalUpstream:
    """A provider that thinks, calls, and wants its proof back: Gemini that of the call, the others that of the thought."""
    signed = provider_format == "gemini"
    thought = Thinking(text="Hm.", signature=None if signed else SIGNATURE, origin=provider_format)  # type: ignore[arg-type]
    call = replace(CALL, signature=SIGNATURE, origin="gemini") if signed else CALL
    upstream.handler = respond_with(
        CODECS[provider_format],
        Response(id="a", model="m", choices=(Choice(parts=(thought, call), finish_reason="tool_calls"),)),
    )
    return upstream


def request_parts(upstream: LocalUpstream, spoken: str) -> list[Part]:
    """What the provider was told last."""
    request: Request = CODECS[spoken].parse_request(upstream.requests[-1].body, "m", False)
    return [part for message in request.messages for part in message.parts]


def assert_signature_returned(upstream: LocalUpstream, spoken: str) -> None:
    parts = request_parts(upstream, spoken)
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
    model: str,
    stream: bool,
) -> None:
    asked: Any = {"model": model, "max_tokens": 200, "tools": [TOOL]}
    if stream:
        with anthropic_client.messages.stream(**asked, messages=[QUESTION]) as running:
            message = running.get_final_message()
    else:
        message = anthropic_client.messages.create(**asked, messages=[QUESTION])
    assert "Hm." in [block.thinking for block in message.content if block.type == "thinking"]
    result: Any = {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": "Sun"}],
    }
    anthropic_client.messages.create(
        **asked, messages=[QUESTION, {"role": "assistant", "content": message.content}, result]
    )
    assert_signature_returned(thinking_upstream, provider_format)


@signing_formats
@both_ways
def test_gemini_round_trips_a_signature(
    gemini_client: genai.Client,
    thinking_upstream: LocalUpstream,
    provider_format: str,
    model: str,
    stream: bool,
) -> None:
    asked: Any = {"model": model, "config": CONFIG}
    models = gemini_client.models
    answers = (
        list(models.generate_content_stream(**asked, contents="Hi"))
        if stream
        else [models.generate_content(**asked, contents="Hi")]
    )
    contents = [
        candidate.content for answer in answers for candidate in answer.candidates or [] if candidate.content
    ]
    parts = [part for content in contents for part in content.parts or []]
    assert "".join(part.text or "" for part in parts if part.thought) == "Hm."
    question = types.Content(role="user", parts=[types.Part(text="Hi")])
    response = types.FunctionResponse(id="call_1", name=CALL.name, response={"result": "Sun"})
    result = types.Content(role="user", parts=[types.Part(function_response=response)])
    models.generate_content(**asked, contents=[question, types.Content(role="model", parts=parts), result])
    assert_signature_returned(thinking_upstream, provider_format)


@signing_formats
@both_ways
def test_openai_responses_round_trips_a_signature(
    openai_client: openai.OpenAI,
    thinking_upstream: LocalUpstream,
    provider_format: str,
    model: str,
    stream: bool,
) -> None:
    asked: Any = {"model": model, "tools": [RESPONSES_TOOL], "max_output_tokens": 200}
    if stream:
        *_, last = openai_client.responses.create(**asked, input="Hi", stream=True)
        response = last.response
    else:
        response = openai_client.responses.create(**asked, input="Hi")
    assert "Hm." in [
        text.text for item in response.output if item.type == "reasoning" for text in item.summary
    ]
    result: Any = {"type": "function_call_output", "call_id": "call_1", "output": "Sun"}
    openai_client.responses.create(**asked, input=[QUESTION, *response.output, result])
    assert_signature_returned(thinking_upstream, provider_format)


@pytest.mark.parametrize("provider_format", ["anthropic", "gemini"], indirect=True)
@both_ways
def test_openai_chat_round_trips_a_signature(
    openai_client: openai.OpenAI, thinking_upstream: LocalUpstream, provider_format: str, stream: bool
) -> None:
    asked: Any = {"model": "other/m", "tools": [CHAT_TOOL]}
    if stream:
        with openai_client.chat.completions.stream(**asked, messages=[QUESTION]) as running:
            message: Any = running.get_final_completion().choices[0].message
    else:
        message = openai_client.chat.completions.create(**asked, messages=[QUESTION]).choices[0].message
    assert message.reasoning_content == "Hm."
    result: Any = {"role": "tool", "tool_call_id": "call_1", "content": "Sun"}
    openai_client.chat.completions.create(
        **asked, messages=[QUESTION, message.model_dump(exclude_none=True), result]
    )
    assert_signature_returned(thinking_upstream, provider_format)


@pytest.fixture
def image_upstream(upstream: LocalUpstream, provider_format: str) -> LocalUpstream:
    upstream.handler = respond_with(CODECS[provider_format], RESPONSES["text"])
    return upstream


def assert_image_received(upstream: LocalUpstream, spoken: str) -> None:
    assert [part.data for part in request_parts(upstream, spoken) if isinstance(part, Image)] == [PIXEL]


@everywhere
def test_anthropic_sends_an_image(
    anthropic_client: anthropic.Anthropic, image_upstream: LocalUpstream, provider_format: str, model: str
) -> None:
    source: Any = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    anthropic_client.messages.create(
        model=model,
        max_tokens=9,
        messages=[{"role": "user", "content": [{"type": "image", "source": source}]}],
    )
    assert_image_received(image_upstream, provider_format)


@everywhere
def test_gemini_sends_an_image(
    gemini_client: genai.Client, image_upstream: LocalUpstream, provider_format: str, model: str
) -> None:
    gemini_client.models.generate_content(
        model=model, contents=types.Part.from_bytes(data=base64.b64decode(PIXEL), mime_type="image/png")
    )
    assert_image_received(image_upstream, provider_format)


@everywhere
def test_openai_responses_sends_an_image(
    openai_client: openai.OpenAI, image_upstream: LocalUpstream, provider_format: str, model: str
) -> None:
    picture: Any = {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "auto"}
    openai_client.responses.create(model=model, input=[{"role": "user", "content": [picture]}])
    assert_image_received(image_upstream, provider_format)


@but_responses
def test_openai_chat_sends_an_image(
    openai_client: openai.OpenAI, image_upstream: LocalUpstream, provider_format: str
) -> None:
    picture: Any = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    openai_client.chat.completions.create(model="other/m", messages=[{"role": "user", "content": [picture]}])
    assert_image_received(image_upstream, provider_format)


# Failures -----------------------------------------------------------------------------------------------------------------

INTERRUPTED_STREAMS = b'event: error\ndata: {"type": "error", "error": {"type": "overloaded_error", "message": "Too busy."}}\n\n'


@pytest.fixture
def interrupted_upstream(upstream: LocalUpstream) -> bytes:
    """An Anthropic stream that begins and fails; what came of it."""
    encoder = CODECS["anthropic"].StreamEncoder(CLIENT_REQUEST)
    begun: bytes = (
        b"".join(encoder.encode(event) for event in events(RESPONSES["text"])[:3]) + INTERRUPTED_STREAMS
    )

    async def answer(asked: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
        await response.prepare(asked)
        await response.write(begun)
        return response

    upstream.handler = answer
    return begun


@pytest.mark.parametrize("provider_format", ["anthropic"], indirect=True)
def test_error_in_passthrough_stream_is_forwarded_and_recorded(
    live_gateway: LiveGateway, interrupted_upstream: bytes, key: str
) -> None:
    asked = {
        "model": "other/m",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
    }
    heard = httpx.post(f"{live_gateway.url}/anthropic/v1/messages", json=asked, headers={"x-api-key": key})
    assert (heard.status_code, heard.headers["content-type"], heard.content) == (
        200,
        "text/event-stream",
        interrupted_upstream,
    )
    record = only_record()
    assert (record.outcome, record.status_code, record.error) == ("upstream_error", 502, "upstream_status")


@pytest.mark.parametrize("provider_format", ["anthropic"], indirect=True)
def test_error_in_converted_stream_uses_the_client_format(
    live_gateway: LiveGateway, interrupted_upstream: bytes, key: str
) -> None:
    asked = {"model": "other/m", "input": "Hi", "stream": True}
    headers = {"authorization": f"Bearer {key}", "x-request-id": "req_mine"}
    heard = httpx.post(f"{live_gateway.url}/openai/v1/responses", json=asked, headers=headers)
    read = [json.loads(line[6:]) for line in heard.text.splitlines() if line.startswith("data: ")]
    assert [event["type"] for event in read[-2:]] == ["error", "response.failed"]
    assert [event["sequence_number"] for event in read] == list(range(len(read)))
    assert (read[-2]["error"]["message"], read[-2]["error"]["request_id"]) == ("Too busy.", "req_mine")
    assert only_record().outcome == "upstream_error"


# The demo model ---------------------------------------------------------------------------------------------------------


def test_the_demo_model_answers_an_anthropic_client(live_gateway: LiveGateway, token: str) -> None:
    with anthropic.Anthropic(base_url=live_gateway.url, api_key=token) as client:
        answer = client.messages.create(
            model="demo/chat", max_tokens=5, messages=[{"role": "user", "content": "Hi"}]
        )
        assert answer.usage.output_tokens == 5
        assert (
            client.messages.count_tokens(
                model="demo/chat", messages=[{"role": "user", "content": "Hi"}]
            ).input_tokens
            > 0
        )


def test_the_demo_model_answers_a_gemini_client(live_gateway: LiveGateway, token: str) -> None:
    with gemini_sdk(live_gateway, token) as client:
        said = client.models.generate_content(
            model="demo/chat", contents="Hi", config=types.GenerateContentConfig(max_output_tokens=5)
        )
        assert said.usage_metadata is not None and said.usage_metadata.candidates_token_count == 5
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


def test_errors_come_in_each_dialect(live_gateway: LiveGateway, transactional_db: None) -> None:
    with (
        anthropic.Anthropic(base_url=live_gateway.url, api_key="wrong", max_retries=0) as claude,
        pytest.raises(anthropic.AuthenticationError, match="not valid") as refused,
    ):
        claude.models.list()
    assert refused.value.status_code == 401
    with (
        gemini_sdk(live_gateway, "wrong") as client,
        pytest.raises(genai.errors.ClientError, match="UNAUTHENTICATED"),
    ):
        client.models.generate_content(model="demo/chat", contents="Hi")
