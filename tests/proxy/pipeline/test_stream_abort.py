"""Streams that have cost their reservation are aborted: a budget is exceeded by at most one chunk."""

import asyncio
from typing import Any

import httpx
import pytest
from aiohttp import web

from billing.ledger.balances import window_balances
from billing.ledger.interface import WindowBalance
from billing.models import Budget, Outcome
from billing.pricing import bundled_price
from keys.models import ApiKey
from projects.models import Project
from tests.support.live_gateway import LiveGateway, only_record
from tests.support.upstream_server import LocalUpstream, chunk

pytestmark = pytest.mark.databases

ENDLESS = 5000
LIMIT = 40
BODY = {
    "model": "gpt-4o-mini",
    "stream": True,
    "max_tokens": LIMIT,
    "messages": [{"role": "user", "content": "Hi"}],
}
RATE = bundled_price("openai", "gpt-4o-mini")


def text_stream(text: str, times: int) -> Any:
    """Return a handler that ignores limits."""

    async def answer(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for _ in range(times):
            await response.write(chunk({"content": text}))
            await asyncio.sleep(0.001)
        await response.write(chunk({}, "stop") + b"data: [DONE]\n\n")
        return response

    return answer


@pytest.fixture
def token(demo_project: Project) -> str:
    key, token = ApiKey.objects.issue(demo_project, "app")
    Budget.objects.create(project=demo_project, key=key, period="day", limit_nano=10_000 * LIMIT)
    return token


def ask(live_gateway: LiveGateway, token: str, path: str = "/v1/chat/completions") -> str:
    return httpx.post(
        f"{live_gateway.url}{path}", json=BODY, headers={"authorization": f"Bearer {token}"}, timeout=20
    ).text


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_output_beyond_the_limit_is_aborted_and_charged(
    live_gateway: LiveGateway, upstream: LocalUpstream, token: str, path: str
) -> None:
    upstream.handler = text_stream("word ", ENDLESS)
    text = ask(live_gateway, token, path)
    assert "insufficient_quota" in text or "rate_limit_error" in text
    assert (
        '"stop_reason":"' not in text
        and '"finish_reason":"stop"' not in text
        and text.count("word") < 3 * LIMIT
    )
    assert upstream.requests[0].closed.wait(2)
    record = only_record()
    assert RATE is not None and record.reserved_nano is not None
    assert (record.outcome, record.estimated) == (Outcome.BUDGET_EXCEEDED, True)
    assert record.cost_nano <= record.reserved_nano + RATE.base.output // 10**6 * 2
    budget = Budget.objects.select_related("project").get()
    assert window_balances(budget.project, [budget])[budget.pk] == WindowBalance(record.cost_nano, 0)


def test_overestimated_large_chunks_are_not_aborted(
    live_gateway: LiveGateway, upstream: LocalUpstream, token: str
) -> None:
    upstream.handler = text_stream("internationalisation, counterintuitively ", LIMIT // 9)
    assert '"finish_reason": "stop"' in ask(live_gateway, token)
    assert only_record().outcome == Outcome.OK


def test_no_stream_is_aborted_without_a_hard_budget(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project
) -> None:
    key, token = ApiKey.objects.issue(demo_project, "free")
    Budget.objects.create(project=demo_project, key=key, period="day", mode="soft", limit_nano=0)
    upstream.handler = text_stream("word ", 5 * LIMIT)
    assert ask(live_gateway, token).count("word") == 5 * LIMIT
    assert only_record().outcome == Outcome.OK
