"""Fuzz test: with a hard budget, no request is charged or reserved less than its bill."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from anthropic.types.beta.message_create_params import MessageCreateParamsNonStreaming
from google.genai.types import GenerateContentConfig
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming

from billing.models import Budget, UsageRecord
from keys.models import ApiKey
from projects.models import Project
from tests.support.billing_provider import BillingProvider
from tests.support.live_gateway import LiveGateway, wait_until
from tests.support.operator_accounts import operator_accounts
from tests.support.sdk_values import ValueGenerator, hints_of
from tests.support.upstream_server import LocalUpstream

ROUNDS, LONG_ROUNDS = 100, 5000
"""Requests of each format."""
BATCH = 50
LIMIT_NANO = 10**17
CONFIG = """
models:
  - {name: gpt-5.2, provider: openai}
  - {name: gpt-5.1-codex, provider: openai, api: responses}
  - {name: gpt-6-astra, provider: openai}
  - {name: claude-sonnet-4-6, provider: anthropic}
  - {name: claude-opus-5, provider: anthropic}
  - {name: gemini-2.5-flash, provider: gemini}
"""
MODELS = (
    *("gpt-5.2", "gpt-5.1-codex", "gpt-6-astra"),
    *("claude-sonnet-4-6", "claude-opus-5", "gemini-2.5-flash"),
)
MESSAGES = [{"role": "user", "content": "Hi"}]
BODIES: dict[str, Any] = {
    "chat/completions": {"messages": MESSAGES, "max_tokens": 50},
    "responses": {"input": "Hi", "max_output_tokens": 50},
    "messages": {"messages": MESSAGES, "max_tokens": 50},
    "gemini": {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]},
}
TYPES: dict[str, Any] = {
    "chat/completions": CompletionCreateParamsNonStreaming,
    "responses": ResponseCreateParamsNonStreaming,
    "messages": MessageCreateParamsNonStreaming,
    "gemini": GenerateContentConfig,
}
GEMINI_TOP_LEVEL = {"systemInstruction", "safetySettings", "tools", "toolConfig", "labels", "cachedContent"}
GEMINI_TOP_LEVEL |= {"serviceTier", "store"}
KEPT = {"messages", "input", "model", "stream", "stream_options"}
"""Fields that are not replaced, because without them there is nothing to bill."""
ALL_NAMES = sorted({name for kind in TYPES.values() for name in hints_of(kind)} - KEPT)
PRICED_NAMES = ("service_tier", "serviceTier", "speed", "inference_geo", "n", "tools", "max_tokens")
"""Fields that are chosen more often than others: they decide on the price."""
CONTAINERS = [
    {"type": "code_interpreter", "container": {"type": "auto", "memory_limit": "16g"}},
    {"type": "shell", "environment": {"type": "container_auto", "memory_limit": "4g"}},
]
OPENAI_VALUES: dict[str, Any] = {
    "prompt_cache_options": [{"ttl": "12h"}, {"ttl": "30m"}],
    "service_tier": ["priority", "fast", "flex", "default"],
}
PRICED_VALUES: dict[str, dict[str, Any]] = {
    "chat/completions": OPENAI_VALUES,
    "responses": OPENAI_VALUES
    | {
        "tools": [
            CONTAINERS,
            [CONTAINERS[0], {"type": "code_interpreter", "container": {"type": "auto"}}],
            [{"type": "web_search"}, {"type": "web_search_preview"}, {"type": "file_search"}],
            [{"type": "image_generation", "model": "gpt-image-1.5", "quality": "low"}],
        ],
        "max_tool_calls": [1, 3],
    },
    "messages": {
        "speed": ["fast", "standard"],
        "inference_geo": ["us", "global"],
        "system": [[{"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]],
        "tools": [[{"type": "web_search_20260209", "name": "web_search"}]],
    },
    "gemini": {"tools": [[{"googleSearch": {}}]], "serviceTier": ["flex"]},
}
"""Values that decide on the price and are valid, which random values rarely are."""

formats = pytest.mark.parametrize("format", BODIES)


@pytest.fixture
def provider(upstream: LocalUpstream) -> BillingProvider:
    provider = BillingProvider()
    upstream.handler = provider.respond
    return provider


@pytest.fixture
def client(
    live_gateway: LiveGateway, local_upstream: LocalUpstream, demo_project: Project, tmp_path: Path
) -> Iterator[httpx.Client]:
    """HTTP client with a key that has a hard budget."""
    config = tmp_path / "gateway.yaml"
    config.write_text(CONFIG)
    headers = {"authorization": f"Bearer {hard_budget(demo_project)}"}
    with (
        operator_accounts(local_upstream.url.removesuffix("/v1"), config),
        httpx.Client(base_url=live_gateway.url, headers=headers, timeout=30) as client,
    ):
        yield client


@formats
def test_no_request_is_charged_less_than_its_bill(
    client: httpx.Client, provider: BillingProvider, format: str
) -> None:
    assert undercharged(client, provider, format, ROUNDS) == []


@pytest.mark.long
@formats
def test_none_of_many_requests_is_charged_less_than_its_bill(
    client: httpx.Client, provider: BillingProvider, format: str
) -> None:
    assert undercharged(client, provider, format, LONG_ROUNDS) == []


def hard_budget(project: Project) -> str:
    """Return the token of a key with a hard budget."""
    key, token = ApiKey.objects.issue(project, "budgeted")
    Budget.objects.create(project=project, key=key, period="day", limit_nano=LIMIT_NANO, mode="hard")
    return token


def undercharged(client: httpx.Client, provider: BillingProvider, format: str, rounds: int) -> list[str]:
    """Send random requests. Return those whose charge or reservation is less than the provider's bill."""
    chance = random.Random(format)
    bills: dict[str, tuple[int, str]] = {}
    admitted = 0
    for _ in range(rounds):
        path, body = random_request(format, chance)
        provider.bills.clear()
        response = client.post(path, content=json.dumps(body))
        assert response.status_code != 500, (response.text, body)
        if provider.bills:
            admitted += 1
            bills[response.headers["x-request-id"]] = sum(provider.bills), json.dumps(body)
    assert admitted > rounds // 10, "Nearly all requests were refused: the fuzz tests nothing."
    wait_until(lambda: UsageRecord.objects.filter(request_id__in=bills).count() >= len(bills))
    rows = UsageRecord.objects.filter(request_id__in=bills)
    return [
        f"reserved {reserved} and charged {charged} of {bills[id][0]}: {bills[id][1]}"
        for id, charged, reserved in rows.values_list("request_id", "cost_nano", "reserved_nano")
        if min(charged, reserved or 0) < bills[id][0]
    ]


def random_request(format: str, chance: random.Random) -> tuple[str, dict[str, Any]]:
    """Return the path and the body of a request with a few random fields."""
    body = {**BODIES[format], **random_fields(format, chance)}
    model, streams = chance.choice(MODELS), chance.random() < 0.3
    if format != "gemini":
        return f"/v1/{format}", {**body, "model": model, "stream": streams}
    method = "streamGenerateContent?alt=sse" if streams else "generateContent"
    top = {name: value for name, value in body.items() if name in {"contents", *GEMINI_TOP_LEVEL}}
    config = {name: value for name, value in body.items() if name not in top}
    return f"/v1beta/models/{model}:{method}", {**top, "generationConfig": {"maxOutputTokens": 50, **config}}


def random_fields(format: str, chance: random.Random) -> dict[str, Any]:
    """Return fields of the vendor with values of their type, and fields of other vendors with any value."""
    generator, own = ValueGenerator(chance), sorted(hints_of(TYPES[format]).keys() - KEPT)
    names = chance.sample(own, chance.randint(1, 3))
    names += [name for name in PRICED_NAMES if name in own and chance.random() < 0.3]
    fields = generator.fields(TYPES[format], names)
    for name, values in PRICED_VALUES[format].items():
        if chance.random() < 0.3:
            fields[name] = chance.choice(values)
    if chance.random() < 0.4:
        fields[chance.choice([*ALL_NAMES, *PRICED_NAMES])] = generator.odd_value()
    return fields
