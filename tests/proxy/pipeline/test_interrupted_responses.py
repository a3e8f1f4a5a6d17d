"""Interrupted provider connections: the received output is charged, at the price of the admission."""

import asyncio
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from aiohttp import web

from billing.models import Budget, Outcome, PriceOverride, UsageRecord
from billing.pricing import bundled_price
from keys.models import ApiKey
from projects.models import Project
from proxy.models import Credential
from tests.support.live_gateway import LiveGateway, only_record, wait_until
from tests.support.upstream_server import USAGE, LocalUpstream, chunk

USD = 10**9
MODEL = "openai/gpt-4o-mini"
TEXT = 3
HALF_TEXT = b'{"choices": [{"message": {"content": "Hel'
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 50},
    "/v1/messages": {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 50},
    "/v1/responses": {"input": "Hi", "max_output_tokens": 50},
}
PRICE = bundled_price("openai", "gpt-4o-mini")


def ask(
    gateway: LiveGateway, project: Project, path: str, model: str = MODEL, mode: str = "hard", **fields: Any
) -> httpx.Response:
    """Send a request with a key that has a budget."""
    key, token = ApiKey.objects.issue(project, "budgeted")
    Budget.objects.create(project=project, key=key, period="day", limit_nano=USD, mode=mode)
    body = {"model": model, **BODIES[path], **fields}
    return httpx.post(
        f"{gateway.url}{path}", json=body, headers={"authorization": f"Bearer {token}"}, timeout=20
    )


def interrupted_handler(chunks: list[bytes], status: int = 200, length: int | None = None) -> Any:
    """Return a handler that sends these chunks and drops the connection."""

    async def answer(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(status=status, headers={"content-type": "text/event-stream"})
        response.content_length = length
        await response.prepare(request)
        for sent in chunks:
            await response.write(sent)
            await asyncio.sleep(0.01)
        assert request.transport is not None
        request.transport.abort()
        return response

    return answer


def event(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


CHAT = [chunk({"content": f"word{number}"}) for number in range(TEXT)]
RESPONSES = [event(type="response.output_text.delta", delta=f"word{number}") for number in range(TEXT)]


@pytest.mark.databases
@pytest.mark.parametrize(
    ("path", "chunks"), [("/v1/chat/completions", CHAT), ("/v1/messages", CHAT), ("/v1/responses", RESPONSES)]
)
def test_interrupted_stream_is_charged_for_relayed_output(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project, path: str, chunks: list[bytes]
) -> None:
    upstream.handler = interrupted_handler(chunks)
    response = ask(live_gateway, demo_project, path, stream=True)
    assert all(f"word{number}" in response.text for number in range(TEXT)) and "error" in response.text
    record = only_record()
    assert PRICE is not None and (record.outcome, record.estimated) == (Outcome.UPSTREAM_ERROR, True)
    assert record.output_tokens == TEXT and record.input_tokens > 0
    assert record.cost_nano == PRICE.cost(record.tokens) > 0
    assert sum(line.amount_femto for line in record.cost_lines) == record.cost_nano * 10**6


def test_usage_reported_before_the_interruption_is_charged_exactly(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project
) -> None:
    """Providers such as xAI report usage in every chunk."""
    upstream.handler = interrupted_handler([*CHAT, event(id="c", choices=[], usage=USAGE)])
    ask(live_gateway, demo_project, "/v1/chat/completions", stream=True)
    record = only_record()
    assert (record.prompt_tokens, record.output_tokens, record.estimated) == (100, 20, False)


@pytest.mark.parametrize("speaker", ["anthropic", "gemini"])
def test_interrupted_streams_of_other_formats_are_charged_for_output(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project, speaker: str
) -> None:
    said = {
        "anthropic": [
            event(
                type="message_start", message={"id": "m", "usage": {"input_tokens": 40, "output_tokens": 1}}
            ),
            event(type="content_block_start", index=0, content_block={"type": "text", "text": ""}),
            *(
                event(type="content_block_delta", index=0, delta={"type": "text_delta", "text": "word"})
                for _ in range(TEXT)
            ),
        ],
        "gemini": [
            event(
                candidates=[{"content": {"parts": [{"text": "word"}]}}],
                usageMetadata={"promptTokenCount": 40},
            )
            for _ in range(TEXT)
        ],
    }[speaker]
    upstream.handler = interrupted_handler(said)
    credential = Credential(
        project=demo_project, slug="other", provider=speaker, base_url=upstream.url.removesuffix("/v1")
    )
    credential.set_secret("sk-provider-secret")
    credential.save()
    model = {"anthropic": "claude-opus-4-8", "gemini": "gemini-2.5-flash"}[speaker]
    path = "/v1/chat/completions"
    ask(live_gateway, demo_project, path, f"other/{model}", stream=True)
    record = only_record()
    assert (record.outcome, record.output_tokens) == (Outcome.UPSTREAM_ERROR, TEXT)
    price = bundled_price({"anthropic": "anthropic", "gemini": "google"}[speaker], model)
    assert price is not None and record.cost_nano == price.cost(record.tokens) > 0


@pytest.mark.databases
@pytest.mark.parametrize(("mode", "output"), [("hard", 50), ("soft", 0)])
def test_interrupted_non_streaming_response_costs_the_reservation(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project, mode: str, output: int
) -> None:
    """The provider may have completed the response, and bills it."""
    upstream.handler = interrupted_handler([HALF_TEXT], length=500)
    assert ask(live_gateway, demo_project, "/v1/chat/completions", mode=mode).status_code == 502
    record = only_record()
    assert PRICE is not None and (record.output_tokens, record.estimated) == (output, True)
    assert record.cost_nano == PRICE.cost(record.tokens) > 0


def test_an_interrupted_error_response_costs_nothing(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project
) -> None:
    upstream.handler = interrupted_handler([b'{"error": {"mess'], status=429, length=500)
    assert ask(live_gateway, demo_project, "/v1/chat/completions").status_code == 502
    assert only_record().cost_nano == 0


@pytest.mark.databases
def test_a_connection_that_breaks_before_the_response_costs_the_input(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project
) -> None:
    async def respond(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    upstream.handler = respond
    assert ask(live_gateway, demo_project, "/v1/chat/completions").status_code == 502
    record = only_record()
    assert (record.output_tokens, record.estimated) == (0, True) and record.cost_nano > 0


def blocking_handler(released: threading.Event) -> Callable[..., Any]:
    async def respond(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if body["messages"][0]["content"] == "Wait":
            await asyncio.to_thread(released.wait, 10)
        choice = {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}
        return web.json_response({"id": "c", "model": "gpt-4o-mini", "choices": [choice], "usage": USAGE})

    return respond


def test_a_request_is_charged_the_price_at_its_admission(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project
) -> None:
    released = threading.Event()
    upstream.handler = blocking_handler(released)
    old = PriceOverride.objects.create(
        project=demo_project, model="gpt-4o-mini", input_nano=USD, output_nano=2 * USD
    )
    slow = threading.Thread(
        target=ask,
        args=(live_gateway, demo_project, "/v1/chat/completions"),
        kwargs={"messages": [{"role": "user", "content": "Wait"}]},
    )
    slow.start()
    wait_until(lambda: len(upstream.requests) == 1)
    PriceOverride.objects.create(
        project=demo_project, model="gpt-4o-mini", input_nano=30 * USD, output_nano=40 * USD
    )
    deadline = time.monotonic() + 2
    while ask(live_gateway, demo_project, "/v1/chat/completions").headers["x-cost-usd"] != "0.0038":
        assert time.monotonic() < deadline
    released.set()
    slow.join(10)
    wait_until(lambda: UsageRecord.objects.filter(cost_nano=100 * 1_000 + 20 * 2_000).exists())
    newest = UsageRecord.objects.filter(cost_nano=140_000).order_by("pk")[0]
    assert (
        newest.applied_price is not None
        and newest.applied_price.source == f"the project's own price #{old.pk}"
    )
