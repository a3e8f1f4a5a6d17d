"""Requests as providers receive them: in their format, without settings that they reject."""

import json
import re
from typing import Any

import httpx
import pytest
from aiohttp import web

from billing.models import Budget, Period
from projects.models import Project
from proxy.providers.catalog import PROVIDERS
from tests.support.moved_providers import ReachProvider
from tests.support.upstream_server import LocalUpstream, completion

HI_MESSAGES = [{"role": "user", "content": "Hi"}]
CHAT = {"messages": HI_MESSAGES, "temperature": 0.3}
MESSAGES = {"messages": HI_MESSAGES, "max_tokens": 50}
CONTENTS = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}
TUNED_REQUEST = {
    "seed": 7,
    "topK": 5,
    "candidateCount": 2,
    "presencePenalty": 0.5,
    "frequencyPenalty": 0.25,
    "responseLogprobs": True,
    "stopSequences": ["END"],
    "temperature": 0.3,
}
ON_THE_WIRE = {
    "seed": "seed",
    "top_k": "top_k",
    "n": "n",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "logprobs": "logprobs",
    "stop": "stop",
    "temperature": "temperature",
}
WEATHER = {"name": "weather", "input_schema": {"type": "object", "properties": {}}}
CLOCK = {"name": "clock", "input_schema": {"type": "object", "properties": {}}}
NINE_CHARACTER_ID = re.compile(r"[a-zA-Z0-9]{9}")


def sent(upstream: LocalUpstream) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(upstream.requests[-1].body)
    return body


def dropped(response: httpx.Response) -> set[str]:
    assert response.status_code == 200, response.text
    return set(filter(None, response.headers.get("x-gateway-dropped", "").split(", ")))


def generate(gateway: httpx.Client, model: str, config: dict[str, Any]) -> httpx.Response:
    return gateway.post(
        f"/v1beta/models/{model}:generateContent", json={**CONTENTS, "generationConfig": config}
    )


@pytest.mark.parametrize(
    ("model", "lost"),
    [
        ("openai/gpt-4o", {"top_k"}),
        ("openai/o3-mini", {"top_k", "temperature", "presence_penalty", "frequency_penalty", "logprobs"}),
        (
            "openai/gpt-5",
            {"top_k", "temperature", "presence_penalty", "frequency_penalty", "logprobs", "stop"},
        ),
        ("azure/deployment", {"top_k"}),
        ("compatible/llama", {"top_k"}),
        ("ollama/llama", {"top_k", "n"}),
        ("vllm/llama", set()),
        ("lmstudio/llama", {"n", "logprobs"}),
        ("groq/llama", {"top_k", "n", "logprobs", "presence_penalty", "frequency_penalty"}),
        ("mistral/mistral-large", {"top_k", "logprobs"}),
        ("deepseek/deepseek-flash", {"top_k", "n", "seed"}),
        ("together/llama", {"logprobs"}),
        ("fireworks/llama", set()),
        ("openrouter/llama", set()),
        ("xai/grok-3", {"top_k"}),
        ("xai/grok-4.5", {"top_k", "stop", "presence_penalty", "frequency_penalty"}),
        ("cerebras/llama", {"top_k", "presence_penalty", "frequency_penalty"}),
    ],
)
def test_unsupported_settings_are_dropped_and_reported(
    reach_provider: ReachProvider, gateway: httpx.Client, upstream: LocalUpstream, model: str, lost: set[str]
) -> None:
    slug = model.partition("/")[0]
    reach_provider(slug)
    assert dropped(generate(gateway, model, TUNED_REQUEST)) == lost
    wire = {**ON_THE_WIRE, **PROVIDERS[slug].quirks.renamed_settings}
    assert {name for name, field in wire.items() if field in sent(upstream)} == wire.keys() - lost


@pytest.mark.parametrize(
    ("model", "field"),
    [
        ("openai/gpt-4o", "max_completion_tokens"),
        ("azure/deployment", "max_completion_tokens"),
        ("compatible/llama", "max_tokens"),
        ("compatible/gpt-5", "max_completion_tokens"),
        ("groq/llama", "max_completion_tokens"),
        ("mistral/mistral-large", "max_tokens"),
        ("cerebras/llama", "max_completion_tokens"),
        ("perplexity/sonar", "max_output_tokens"),
    ],
)
def test_the_output_limit_has_the_providers_name(
    reach_provider: ReachProvider, gateway: httpx.Client, upstream: LocalUpstream, model: str, field: str
) -> None:
    reach_provider(model.partition("/")[0])
    assert generate(gateway, model, {"maxOutputTokens": 50}).status_code == 200
    limits = {name: value for name, value in sent(upstream).items() if name.startswith("max_")}
    assert limits == {field: 50}


@pytest.mark.parametrize(
    ("model", "level", "effort", "changes"),
    [
        ("mistral/mistral-small", "low", "high", {"reasoning;changed=raised"}),
        ("mistral/mistral-small", "minimal", "none", {"reasoning;changed=lowered"}),
        ("groq/gpt-oss", "minimal", "low", {"reasoning;changed=raised"}),
        ("cerebras/gpt-oss", "medium", "medium", set()),
        ("together/gpt-oss", "minimal", "low", {"reasoning;changed=raised"}),
        ("xai/grok-4.5", "minimal", "low", {"reasoning;changed=raised"}),
    ],
)
def test_reasoning_uses_efforts_that_the_provider_supports(
    reach_provider: ReachProvider,
    gateway: httpx.Client,
    upstream: LocalUpstream,
    model: str,
    level: str,
    effort: str,
    changes: set[str],
) -> None:
    reach_provider(model.partition("/")[0])
    assert dropped(generate(gateway, model, {"thinkingConfig": {"thinkingLevel": level}})) == changes
    assert sent(upstream)["reasoning_effort"] == effort


def test_a_renamed_setting_keeps_its_value(
    reach_provider: ReachProvider, gateway: httpx.Client, upstream: LocalUpstream
) -> None:
    reach_provider("mistral")
    generate(gateway, "mistral/mistral-large", {"seed": 7})
    assert sent(upstream)["random_seed"] == 7 and "seed" not in sent(upstream)


@pytest.mark.parametrize(
    ("slug", "asks"), [("mistral", False), ("groq", True), ("openai", True), ("compatible", True)]
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/completions"])
def test_usage_is_requested_if_the_provider_supports_it(
    reach_provider: ReachProvider,
    gateway: httpx.Client,
    upstream: LocalUpstream,
    slug: str,
    asks: bool,
    path: str,
) -> None:
    reach_provider(slug)
    body = {"prompt": "Hi"} if path == "/v1/completions" else MESSAGES
    assert gateway.post(path, json={"model": f"{slug}/m", **body, "stream": True}).status_code == 200
    assert sent(upstream).get("stream_options") == ({"include_usage": True} if asks else None)


def test_a_relayed_request_keeps_what_the_client_wrote(
    reach_provider: ReachProvider, gateway: httpx.Client, upstream: LocalUpstream
) -> None:
    reach_provider("mistral")
    body = {
        "model": "mistral/m",
        **CHAT,
        "seed": 7,
        "logprobs": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    response = gateway.post("/v1/chat/completions", json=body)
    assert sent(upstream) == {**body, "model": "m"} and dropped(response) == set()


def test_a_limit_that_the_gateway_sets_has_the_providers_name(
    reach_provider: ReachProvider, gateway: httpx.Client, upstream: LocalUpstream, demo_project: Project
) -> None:
    Budget.objects.create(project=demo_project, limit_nano=10**9, period=Period.DAY)
    reach_provider("groq")
    response = gateway.post("/v1/chat/completions", json={"model": "groq/llama-3.3-70b-versatile", **CHAT})
    assert response.status_code == 200, response.text
    assert sent(upstream)["max_completion_tokens"] == int(response.headers["x-gateway-max-tokens"])
    assert "max_tokens" not in sent(upstream)


def test_tool_call_ids_have_the_form_that_mistral_requires(
    reach_provider: ReachProvider, gateway: httpx.Client, upstream: LocalUpstream
) -> None:
    reach_provider("mistral")
    given = ["toolu_01A09q90qw90lq917835lq9", "toolu_01A09q90qw90lq917835lq8", "AbCdEf123"]
    calls = [{"type": "tool_use", "id": id, "name": "weather", "input": {}} for id in given]
    results = [{"type": "tool_result", "tool_use_id": id, "content": id} for id in reversed(given)]
    turns = [*HI_MESSAGES, {"role": "assistant", "content": calls}, {"role": "user", "content": results}]
    body = {"model": "mistral/m", "max_tokens": 50, "messages": turns, "tools": [WEATHER]}
    for _ in range(2):
        assert gateway.post("/v1/messages", json=body).status_code == 200
    assert upstream.requests[0].body == upstream.requests[1].body
    _, called, *answered = sent(upstream)["messages"]
    made = [call["id"] for call in called["tool_calls"]]
    assert len(set(made)) == 3 and all(map(NINE_CHARACTER_ID.fullmatch, made)) and made[2] == "AbCdEf123"
    assert {result["content"]: result["tool_call_id"] for result in answered} == dict(
        zip(given, made, strict=True)
    )


def test_unsupported_schema_becomes_an_instruction(
    reach_provider: ReachProvider, gateway: httpx.Client, upstream: LocalUpstream
) -> None:
    reach_provider("deepseek")
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    response = generate(
        gateway, "deepseek/m", {"responseMimeType": "application/json", "responseJsonSchema": schema}
    )
    assert dropped(response) == {"response_format"}
    assert sent(upstream)["response_format"] == {"type": "json_object"}
    assert json.dumps(schema, separators=(",", ":")) in sent(upstream)["messages"][0]["content"]
    assert dropped(generate(gateway, "deepseek/m", {"responseMimeType": "application/json"})) == set()


@pytest.mark.parametrize(
    ("choice", "offered", "lost"),
    [
        ({"type": "none"}, [], set()),
        ({"type": "tool", "name": "clock"}, ["clock"], {"tool_choice"}),
        ({"type": "any"}, ["weather", "clock"], {"tool_choice"}),
    ],
)
def test_unsupported_tool_choice_narrows_the_tool_list(
    reach_provider: ReachProvider,
    gateway: httpx.Client,
    upstream: LocalUpstream,
    choice: dict[str, str],
    offered: list[str],
    lost: set[str],
) -> None:
    reach_provider("ollama")
    body = {"model": "ollama/m", **MESSAGES, "tools": [WEATHER, CLOCK], "tool_choice": choice}
    assert dropped(gateway.post("/v1/messages", json=body)) == lost
    assert [tool["function"]["name"] for tool in sent(upstream).get("tools", [])] == offered
    assert "tool_choice" not in sent(upstream)


def test_perplexity_gets_only_supported_fields(
    reach_provider: ReachProvider, gateway: httpx.Client, upstream: LocalUpstream
) -> None:
    reach_provider("perplexity")
    settings = {
        "temperature": 0.3,
        "user": "u",
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "reasoning_effort": "high",
    }
    tools = [
        {
            "type": "function",
            "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}},
        }
    ]
    response = gateway.post(
        "/v1/chat/completions",
        json={"model": "perplexity/perplexity/sonar", **CHAT, **settings, "tools": tools},
    )
    assert dropped(response) == {"temperature", "user", "tool_choice", "parallel_tool_calls"}
    assert sent(upstream).keys() == {"model", "input", "tools", "reasoning", "store"}
    assert sent(upstream)["model"] == "perplexity/sonar" and sent(upstream)["reasoning"] == {"effort": "high"}
    assert response.json()["choices"][0]["message"]["content"] == "Hello"


@pytest.mark.parametrize(
    ("slug", "client", "provider_format"),
    [
        ("openai", "chat/completions", "openai_chat/chat/completions"),
        ("openai", "responses", "openai_responses/responses"),
        ("openai", "messages", "openai_chat/chat/completions"),
        ("deepseek", "chat/completions", "openai_chat/chat/completions"),
        ("deepseek", "messages", "anthropic/v1/messages"),
        ("deepseek", "responses", "openai_chat/chat/completions"),
        ("openrouter", "messages", "anthropic/v1/messages"),
        ("fireworks", "messages", "anthropic/v1/messages"),
        ("xai", "responses", "openai_responses/responses"),
        ("xai", "messages", "openai_chat/chat/completions"),
        ("groq", "responses", "openai_chat/chat/completions"),
        ("perplexity", "messages", "openai_responses/responses"),
        ("anthropic", "chat/completions", "anthropic/v1/messages"),
    ],
)
def test_a_provider_is_called_in_the_format_nearest_to_the_clients(
    reach_provider: ReachProvider,
    gateway: httpx.Client,
    upstream: LocalUpstream,
    slug: str,
    client: str,
    provider_format: str,
) -> None:
    reach_provider(slug)
    body = {"model": f"{slug}/m", **({"input": "Hi"} if client == "responses" else MESSAGES)}
    response = gateway.post(f"/v1/{client}", json=body)
    assert response.status_code == 200, response.text
    assert upstream.requests[0].path == f"/v1/{provider_format}"
    key = PROVIDERS[slug].auth_headers("sk-provider")
    assert key.items() <= upstream.requests[0].headers.items()


def test_azure_url_and_key_header(
    reach_provider: ReachProvider, gateway: httpx.Client, upstream: LocalUpstream
) -> None:
    queries = []

    async def note(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        queries.append(dict(request.query))
        return await completion(request, body)

    reach_provider("azure")
    upstream.handler = note
    body = {"model": "azure/my gpt", **CHAT}
    assert gateway.post("/v1/chat/completions", json=body).status_code == 200
    (call,) = upstream.requests
    assert call.path == "/v1/openai_chat/openai/deployments/my gpt/chat/completions"
    assert queries == [{"api-version": "2024-10-21"}]
    assert call.headers["api-key"] == "sk-provider" and "authorization" not in call.headers


@pytest.mark.parametrize("slug", ["deepseek", "openrouter", "mistral"])
def test_tokens_are_estimated_if_a_provider_does_not_count_them(
    reach_provider: ReachProvider, gateway: httpx.Client, upstream: LocalUpstream, slug: str
) -> None:
    reach_provider(slug)
    response = gateway.post("/v1/messages/count_tokens", json={"model": f"{slug}/m", "messages": HI_MESSAGES})
    assert response.status_code == 200 and response.headers["x-gateway-estimate"] == "true"
    assert upstream.requests == []
