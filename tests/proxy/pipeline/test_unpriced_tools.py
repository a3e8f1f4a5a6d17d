"""A hard budget denies tools, and settings of tools, whose price is not known."""

from typing import Any

import httpx
import pytest

from billing.models import Budget, PriceOverride
from keys.models import ApiKey
from projects.models import Project
from tests.support.api_calls import PATHS, Json, connect, respond_with_text
from tests.support.live_gateway import LiveGateway, only_record
from tests.support.upstream_server import LocalUpstream

USD = 10**9
MESSAGES = [{"role": "user", "content": "Hi"}]
DEVELOPER: Json = {"type": "additional_tools", "role": "developer"}
CONTENTS = [{"role": "user", "parts": [{"text": "Hi"}]}]
BODIES: dict[str, Json] = {
    "openai_chat": {"model": "gpt-5.2", "messages": MESSAGES, "max_tokens": 50},
    "openai_responses": {"model": "gpt-5.2", "input": "Hi", "max_output_tokens": 50},
    "anthropic": {"model": "other/claude-opus-4-8", "messages": MESSAGES, "max_tokens": 50},
    "gemini": {"contents": CONTENTS, "generationConfig": {"maxOutputTokens": 50}},
}
GEMINI_PATH = "/v1beta/models/other/gemini-2.5-flash:generateContent"


def inline_tool(**definition: Any) -> Json:
    change = {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": definition}}
    return {"messages": [*MESSAGES, {"role": "system", "content": [change]}]}


def brought_tool(**tool: Any) -> Json:
    return {"input": [{"role": "user", "content": "Hi"}, {**DEVELOPER, "tools": [tool]}]}


UNPRICED = [
    ("openai_responses", {"tools": [{"type": "unheard_of"}]}),
    ("openai_responses", {"tools": [{"type": "programmatic_tool_calling"}]}),
    ("openai_responses", brought_tool(type="unheard_of")),
    ("openai_responses", {"tools": [{"type": "code_interpreter", "container": {"memory_limit": "128g"}}]}),
    ("openai_responses", {"tools": [{"type": "image_generation", "output_format": "gif"}]}),
    ("openai_responses", {"tools": [{"type": "image_generation", "frame_count": 40}]}),
    ("openai_responses", {"tools": [{"type": "image_generation", "quality": "ultra"}]}),
    ("openai_responses", {"tools": [{"type": "image_generation", "complexity": "high"}]}),
    ("openai_responses", brought_tool(type="image_generation", output_format="svg")),
    ("openai_responses", {"reasoning": {"mode": "pro"}}),
    ("openai_responses", {"multi_agent": {"max_agents": 4}}),
    ("openai_chat", {"reasoning": {"mode": "pro"}}),
    ("openai_chat", {"web_search_options": {"search_type": "pro"}}),
    ("anthropic", {"tools": [{"type": "unheard_of_20270101", "name": "x"}]}),
    ("anthropic", inline_tool(type="unheard_of_20270101", name="x")),
    ("gemini", {"tools": [{"exaAiSearch": {}}]}),
    ("gemini", {"tools": [{"enterprise_web_search": {}}]}),
]
PRICED = [
    ("openai_responses", {"tools": [{"type": "web_search_2025_08_26"}, {"type": "mcp"}]}),
    ("openai_responses", {"tools": [{"type": "file_search"}, {"type": "tool_search"}]}),
    ("openai_responses", {"tools": [{"type": "shell", "environment": {"type": "container_auto"}}]}),
    ("openai_responses", {"tools": [{"type": "code_interpreter", "container": {"memory_limit": "64g"}}]}),
    ("openai_responses", {"tools": [{"type": "image_generation", "quality": "max", "size": "auto"}]}),
    ("openai_responses", {"tools": [{"type": "namespace"}, {"type": "function"}, {"type": "computer"}]}),
    ("openai_responses", {"reasoning": {"mode": "standard", "effort": "high"}}),
    ("openai_chat", {"web_search_options": {"search_context_size": "high"}}),
    ("anthropic", {"tools": [{"type": "web_search_20260318", "name": "web_search"}]}),
    ("anthropic", {"tools": [{"type": "bash_20250124"}, {"type": "computer_toolset_20260801"}]}),
    ("anthropic", {"tools": [{"type": "tool_search_tool_regex", "name": "x"}, {"name": "y"}]}),
    ("anthropic", {"tools": [{"type": "mcp_toolset", "mcp_server_name": "x"}]}),
    ("anthropic", inline_tool(name="x", input_schema={"type": "object"})),
    ("gemini", {"tools": [{"googleSearch": {}}, {"url_context": {}}, {"codeExecution": {}}]}),
]


def token_of(project: Project, mode: str = "hard") -> str:
    key, token = ApiKey.objects.issue(project, "budgeted")
    Budget.objects.create(project=project, key=key, period="day", limit_nano=1000 * USD, mode=mode)
    return token


def send(
    gateway: LiveGateway, upstream: LocalUpstream, token: str, format: str, fields: Json
) -> httpx.Response:
    upstream.handler = respond_with_text(format, "Hello")
    headers = {"authorization": f"Bearer {token}"}
    url = f"{gateway.url}{PATHS.get(format, GEMINI_PATH)}"
    return httpx.post(url, json=BODIES[format] | fields, headers=headers, timeout=20)


@pytest.mark.parametrize(("format", "fields"), UNPRICED)
def test_hard_budget_refuses_what_has_no_known_price(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project, format: str, fields: Json
) -> None:
    connect(demo_project, format, upstream)
    response = send(live_gateway, upstream, token_of(demo_project), format, fields)
    assert (response.status_code, upstream.requests) == (400, [])
    assert "is not known, so a budget cannot cover" in response.json()["error"]["message"]
    assert only_record().outcome == "budget"


@pytest.mark.parametrize(("format", "fields"), PRICED)
def test_hard_budget_admits_what_the_price_covers(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project, format: str, fields: Json
) -> None:
    connect(demo_project, format, upstream)
    assert send(live_gateway, upstream, token_of(demo_project), format, fields).status_code == 200


@pytest.mark.parametrize(("format", "fields"), UNPRICED[:1] + UNPRICED[-1:])
def test_other_keys_may_use_them(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project, format: str, fields: Json
) -> None:
    connect(demo_project, format, upstream)
    assert send(live_gateway, upstream, token_of(demo_project, "shadow"), format, fields).status_code == 200


def test_tools_are_free_if_an_override_does_not_name_them(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project
) -> None:
    connect(demo_project, "openai_responses", upstream)
    PriceOverride.objects.create(project=demo_project, model="gpt-5.2", input_nano=USD, output_nano=USD)
    fields = {"tools": [{"type": "unheard_of"}]}
    assert send(live_gateway, upstream, token_of(demo_project), "openai_responses", fields).status_code == 200


def test_gemini_settings_that_choose_a_model_are_refused(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project
) -> None:
    connect(demo_project, "gemini", upstream)
    routing = {"manualMode": {"modelName": "gemini-3.8-pro"}}
    _, token = ApiKey.objects.issue(demo_project, "restricted", allowed_models=["other/gemini-2.5-flash"])
    fields = {"generationConfig": {"routing_config": routing}}
    assert send(live_gateway, upstream, token, "gemini", fields).status_code == 403
    assert not upstream.requests


def test_a_compaction_in_a_response_reserves_the_longest_summary(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project
) -> None:
    connect(demo_project, "openai_responses", upstream)
    items = [{"role": "user", "content": "Hi"}, {"type": "compaction_trigger"}]
    response = send(live_gateway, upstream, token_of(demo_project), "openai_responses", {"input": items})
    assert response.status_code == 200
    record = only_record()
    # gpt-5.2 in its most expensive tier: 28 USD per million tokens of output
    assert record.reserved_nano is not None and record.reserved_nano >= 128_000 * 28_000
