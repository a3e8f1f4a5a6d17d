"""Prompts that OpenAI caches for 12 hours: their reservation, their charge, and their page."""

from typing import Any

import httpx
import pytest
from aiohttp import web

from billing.models import Budget
from billing.usage.reports import UsageReport
from gateway_project.dashboard.templatetags.money import cost_label
from keys.models import ApiKey
from projects.models import Project
from tests.support.api_calls import chat_response, responses_response
from tests.support.live_gateway import LiveGateway, only_record
from tests.support.upstream_server import LocalUpstream

pytestmark = pytest.mark.databases

USD = 10**9
DETAILS = {
    "cached_tokens": 100,
    "cache_write_tokens": 700,
    "cache_write_tokens_details": {"ttl_30m_tokens": 200, "ttl_12h_tokens": 500},
}
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "chat completions": (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "x" * 1000}], "max_tokens": 10},
        chat_response("Hi")
        | {"usage": {"prompt_tokens": 1000, "completion_tokens": 10, "prompt_tokens_details": DETAILS}},
    ),
    "responses": (
        "/v1/responses",
        {"input": "x" * 1000, "max_output_tokens": 10},
        responses_response("Hi")
        | {"usage": {"input_tokens": 1000, "output_tokens": 10, "input_tokens_details": DETAILS}},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_writes_for_12_hours_are_reserved_and_charged_at_their_own_price(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project, case: str
) -> None:
    """Prices of gpt-6-sol: 2 USD a million tokens, 0.20 cached, 2.50 or 5 to cache them, 10 for output."""
    path, request, response = CASES[case]

    async def respond(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(response)

    upstream.handler = respond
    key, token = ApiKey.objects.issue(demo_project, "budgeted")
    Budget.objects.create(project=demo_project, key=key, period="day", limit_nano=100 * USD)
    body = {"model": "gpt-6-sol", "prompt_cache_options": {"ttl": "12h"}, **request}
    headers = {"authorization": f"Bearer {token}"}
    assert httpx.post(f"{live_gateway.url}{path}", json=body, headers=headers, timeout=20).status_code == 200
    record = only_record()
    assert (record.cache_write_5m_tokens, record.cache_write_12h_tokens, record.prompt_tokens) == (
        200,
        500,
        1000,
    )
    assert record.cost_nano == (200 * 2_000 + 100 * 200 + 200 * 2_500 + 500 * 5_000 + 10 * 10_000)
    assert record.reserved_nano is not None and record.reserved_nano >= 1000 * 5_000
    assert sum(line.amount_femto for line in record.cost_lines) == record.cost_nano * 10**6
    labels = [cost_label(line.kind) for line in record.cost_lines]
    assert "Input written to a 12-hour cache" in labels
    assert UsageReport.all_time(demo_project).total().input_tokens == 1000
