"""Estimates of the gateway for usage that is missing or not valid, which are marked on the record."""

import json
from typing import Any

import pytest

from billing.models import Budget
from keys.models import ApiKey
from projects.models import Project
from proxy.formats import gemini
from proxy.formats.anthropic import MessagesRequest
from proxy.formats.codec import ClientRequest
from proxy.formats.gemini import GenerateContentRequest
from proxy.formats.neutral import Usage
from proxy.formats.openai_chat import ChatRequest
from proxy.formats.openai_chat.embeddings import CreateEmbeddingRequest
from proxy.formats.openai_responses import ResponsesRequest
from tests.support.api_calls import (
    ABSENT,
    COMPLETE_USAGE,
    FORMATS,
    RESPONSES,
    STREAMS,
    ask,
    connect,
    respond_with_text,
    usage_field,
)
from tests.support.live_gateway import LiveGateway, only_record
from tests.support.upstream_server import LocalUpstream

LIMIT = 50
WORDS = "word " * 80
TOKENS = 100
CALLS: dict[str, type[Any]] = {
    "openai_chat": ChatRequest,
    "openai_responses": ResponsesRequest,
    "anthropic": MessagesRequest,
    "gemini": GenerateContentRequest,
}
REQUESTS = {
    "openai_chat": b'{"model": "m", "messages": [{"role": "user", "content": "Hi"}]}',
    "openai_responses": b'{"model": "m", "input": "Hi"}',
    "anthropic": b'{"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": "Hi"}]}',
    "gemini": b'{"contents": [{"parts": [{"text": "Hi"}]}]}',
}
INPUT_ONLY = {"openai_chat": "prompt_tokens", "openai_responses": "input_tokens", "anthropic": "input_tokens"}
SAYS_NOTHING = {
    "absent": ABSENT,
    "null": None,
    "empty": {},
    "a list": [],
    "a text": "many",
    "a number": 5,
    "true": True,
}


def mistyped(wire_format: str, value: Any) -> dict[str, Any]:
    """Return a usage whose output count, or a similar field, is `value`."""
    return {name: value if ("output" in name or "completion" in name or "candidates" in name) else count
            for name, count in COMPLETE_USAGE[wire_format].items()}  # fmt: skip


CASES = [
    *[(wire_format, usage) for wire_format in FORMATS for usage in SAYS_NOTHING.values()],
    *[
        (wire_format, mistyped(wire_format, value))
        for wire_format in FORMATS
        for value in ("many", -1, 1.5, [5], True, 2**31)
    ],
    *[(wire_format, dict.fromkeys(COMPLETE_USAGE[wire_format], 0)) for wire_format in FORMATS],
    *[(wire_format, {name: 7}) for wire_format, name in INPUT_ONLY.items()],
    ("gemini", {"trafficType": "ON_DEMAND"}),
]


def call_of(wire_format: str, stream: bool = False) -> ClientRequest:
    call: ClientRequest = CALLS[wire_format](REQUESTS[wire_format], "m", stream)
    return call


@pytest.mark.parametrize(("wire_format", "usage"), CASES)
def test_a_response_that_does_not_state_its_usage_is_counted_by_its_text(
    wire_format: str, usage: Any
) -> None:
    body = json.dumps(RESPONSES[wire_format](WORDS) | usage_field(wire_format, usage)).encode()
    assert call_of(wire_format).measure(body) == (None, TOKENS)


@pytest.mark.parametrize(("wire_format", "usage"), CASES)
def test_a_response_without_text_shows_no_output_either(wire_format: str, usage: Any) -> None:
    body = json.dumps(RESPONSES[wire_format]("") | usage_field(wire_format, usage)).encode()
    assert call_of(wire_format).measure(body) == (None, 0)


@pytest.mark.parametrize(("wire_format", "usage"), CASES)
def test_a_stream_that_reports_no_usage_is_counted_by_its_text(wire_format: str, usage: Any) -> None:
    meter = call_of(wire_format, stream=True).meter()
    meter.feed(b"".join(STREAMS[wire_format](WORDS, usage, 1)))
    meter.finish()
    assert meter.output_tokens == TOKENS
    starts_with_input = wire_format == "anthropic"
    assert meter.usage == (Usage(input=7, output=TOKENS, estimated=True) if starts_with_input else None)


@pytest.mark.parametrize("wire_format", FORMATS)
def test_whole_usage_is_taken_as_it_is(wire_format: str) -> None:
    body = json.dumps(
        RESPONSES[wire_format](WORDS) | usage_field(wire_format, COMPLETE_USAGE[wire_format])
    ).encode()
    assert call_of(wire_format).measure(body) == (Usage(input=7, output=5), 0)
    meter = call_of(wire_format, stream=True).meter()
    meter.feed(b"".join(STREAMS[wire_format](WORDS, COMPLETE_USAGE[wire_format], 1)))
    meter.finish()
    assert meter.usage == Usage(input=7, output=5)


def test_output_that_the_total_implies_counts_as_reported() -> None:
    usage = {"prompt_tokens": 7, "total_tokens": 12}
    body = json.dumps(RESPONSES["openai_chat"](WORDS) | {"usage": usage}).encode()
    assert call_of("openai_chat").measure(body) == (Usage(input=7, output=5), 0)


@pytest.mark.parametrize(
    "usage", [None, {}, [], {"prompt_tokens": "many"}, {"prompt_tokens": 0}, {"total_tokens": 3}]
)
def test_embeddings_report_their_input_only(usage: Any) -> None:
    call = CreateEmbeddingRequest(b'{"model": "m", "input": "Hi"}')
    assert call.measure(json.dumps({"data": [], "usage": usage}).encode()) == (None, 0)
    assert call.measure(b'{"data": [], "usage": {"prompt_tokens": 3}}') == (Usage(input=3), 0)


@pytest.mark.parametrize(
    "usage", [None, {}, [], "many", {"promptTokenCount": 7, "candidatesTokenCount": "many"}]
)
def test_early_counts_of_gemini_are_not_final(usage: Any) -> None:
    early = {"promptTokenCount": 7, "candidatesTokenCount": 2, "totalTokenCount": 9}
    first = {"candidates": [{"content": {"parts": [{"text": "word"}]}}], "usageMetadata": early}
    stream = b"data: " + json.dumps(first).encode() + b"\n\n" + b"".join(STREAMS["gemini"](WORDS, usage, 1))
    meter = call_of("gemini", stream=True).meter()
    meter.feed(stream)
    meter.finish()
    assert meter.usage is None or meter.usage == Usage(input=7, output=TOKENS + 1, estimated=True)
    assert meter.output_tokens == TOKENS + 1


@pytest.mark.parametrize("last", [{}, {"usage": None}, {"usage": {}}, {"usage": "many"}])
def test_intermediate_counts_do_not_include_later_output(last: dict[str, Any]) -> None:
    def chunk(text: str, **fields: Any) -> bytes:
        return (
            b"data: "
            + json.dumps({"choices": [{"index": 0, "delta": {"content": text}}], **fields}).encode()
            + b"\n\n"
        )

    meter = call_of("openai_chat", stream=True).meter()
    meter.feed(chunk("word", usage={"prompt_tokens": 7, "completion_tokens": 1}))
    assert meter.usage == Usage(input=7, output=1)
    meter.feed(chunk(WORDS, **last))
    assert meter.usage == Usage(input=7, output=TOKENS + 1, estimated=True)


def test_a_blocked_prompt_without_counts_reports_no_usage() -> None:
    response = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"trafficType": "ON_DEMAND"}}
    body = json.dumps(response).encode()
    assert call_of("gemini").measure(body) == (None, 0)
    assert gemini.parse_response(body).usage == Usage()


def budgeted(project: Project, mode: str) -> str:
    key, token = ApiKey.objects.issue(project, "app")
    Budget.objects.create(project=project, key=key, period="day", limit_nano=10**10, mode=mode)
    return token


SERVED = [(wire_format, wire_format) for wire_format in FORMATS] + [
    ("openai_chat", "anthropic"),
    ("openai_chat", "gemini"),
    ("anthropic", "openai_chat"),
    ("gemini", "openai_chat"),
    ("openai_responses", "gemini"),
]
"""Formats of clients and providers, equal ones and different ones."""


@pytest.mark.databases
@pytest.mark.parametrize("stream", [False, True], ids=["unary", "streamed"])
@pytest.mark.parametrize("usage", ["absent", "null", "empty", "a list", "a text"])
@pytest.mark.parametrize(("client", "served"), SERVED)
def test_a_response_without_output_costs_as_much_as_a_lost_one(
    live_gateway: LiveGateway,
    upstream: LocalUpstream,
    demo_project: Project,
    client: str,
    served: str,
    usage: str,
    stream: bool,
) -> None:
    connect(demo_project, served, upstream)
    upstream.handler = respond_with_text(served, "", SAYS_NOTHING[usage])
    ask(
        live_gateway,
        budgeted(demo_project, "hard"),
        client,
        provider_format=served,
        stream=stream,
        limit=LIMIT,
    )
    record = only_record()
    assert (record.output_tokens, record.estimated) == (LIMIT, True)
    assert 0 < record.cost_nano <= (record.reserved_nano or 0)


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "streamed"])
@pytest.mark.parametrize("usage", ["absent", "null", "empty", "a list", "a text"])
@pytest.mark.parametrize(("client", "served"), SERVED)
def test_visible_output_is_charged(
    live_gateway: LiveGateway,
    upstream: LocalUpstream,
    demo_project: Project,
    client: str,
    served: str,
    usage: str,
    stream: bool,
) -> None:
    connect(demo_project, served, upstream)
    upstream.handler = respond_with_text(served, WORDS, SAYS_NOTHING[usage])
    response = ask(
        live_gateway,
        budgeted(demo_project, "hard"),
        client,
        provider_format=served,
        stream=stream,
        limit=2 * TOKENS,
    )
    assert response.status_code == 200
    record = only_record()
    assert (record.output_tokens, record.estimated) == (TOKENS, True)
    assert 0 < record.cost_nano <= (record.reserved_nano or 0)


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "streamed"])
@pytest.mark.parametrize(("client", "served"), SERVED)
def test_without_a_hard_budget_nothing_is_assumed(
    live_gateway: LiveGateway,
    upstream: LocalUpstream,
    demo_project: Project,
    client: str,
    served: str,
    stream: bool,
) -> None:
    connect(demo_project, served, upstream)
    upstream.handler = respond_with_text(served, "", {})
    ask(
        live_gateway,
        budgeted(demo_project, "soft"),
        client,
        provider_format=served,
        stream=stream,
        limit=LIMIT,
    )
    record = only_record()
    assert record.output_tokens <= 1 and record.estimated and record.cost_nano > 0


@pytest.mark.parametrize(("client", "served"), SERVED)
@pytest.mark.parametrize("stream", [False, True], ids=["unary", "streamed"])
def test_complete_usage_is_charged_exactly(
    live_gateway: LiveGateway,
    upstream: LocalUpstream,
    demo_project: Project,
    client: str,
    served: str,
    stream: bool,
) -> None:
    connect(demo_project, served, upstream)
    upstream.handler = respond_with_text(served, WORDS, COMPLETE_USAGE[served])
    ask(
        live_gateway,
        budgeted(demo_project, "hard"),
        client,
        provider_format=served,
        stream=stream,
        limit=2 * TOKENS,
    )
    record = only_record()
    assert (record.prompt_tokens, record.output_tokens, record.estimated) == (7, 5, False)
