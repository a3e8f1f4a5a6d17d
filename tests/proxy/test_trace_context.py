"""The client's trace continues in calls to providers; malformed ones are ignored."""

import io
import json
import time
from typing import Any

import httpx
import pytest
import structlog

from proxy import trace_context
from proxy.http.request import GatewayRequest
from proxy.pipeline import settle
from tests.support.upstream_server import LocalUpstream

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN_ID = "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE_ID}-{SPAN_ID}-01"


async def receive() -> Any:
    raise AssertionError("the body is not read")


def request_with(traceparent: str) -> GatewayRequest:
    headers = [(b"traceparent", traceparent.encode("latin-1"))] if traceparent else []
    return GatewayRequest({"type": "http", "method": "POST", "path": "/", "headers": headers}, receive)


def test_each_call_has_a_span_id_of_its_own() -> None:
    request = request_with(TRACEPARENT)
    first, second = (trace_context.upstream_headers(request)["traceparent"].split("-") for _ in range(2))
    assert first[:2] == second[:2] == ["00", TRACE_ID]
    assert first[3] == second[3] == "01"
    assert len({first[2], second[2], SPAN_ID}) == 3
    assert len(first[2]) == 16


def test_the_result_is_valid_itself() -> None:
    sent = trace_context.upstream_headers(request_with(TRACEPARENT))["traceparent"]
    assert trace_context.trace_id(request_with(sent)) == TRACE_ID


@pytest.mark.parametrize(
    ("given", "flags"),
    [
        (f"00-{TRACE_ID}-{SPAN_ID}-00", "00"),
        (f"00-{TRACE_ID}-{SPAN_ID}-ff", "03"),
        (f"cc-{TRACE_ID}-{SPAN_ID}-01-a-later-field", "01"),
    ],
)
def test_flags_and_later_versions(given: str, flags: str) -> None:
    sent = trace_context.upstream_headers(request_with(given))["traceparent"]
    assert sent.startswith(f"00-{TRACE_ID}-") and sent.endswith(f"-{flags}")


@pytest.mark.parametrize(
    "malformed",
    [
        "",
        "trace",
        TRACEPARENT.upper(),
        f"ff-{TRACE_ID}-{SPAN_ID}-01",
        f"00-{'0' * 32}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"00-{TRACE_ID}-{SPAN_ID}-01-more",
        f"00-{TRACE_ID}-{SPAN_ID}-01\xe9",
        f"00-{TRACE_ID}-{SPAN_ID}-1",
        f"{TRACEPARENT}, {TRACEPARENT}",
    ],
)
def test_malformed_ones_are_ignored(malformed: str) -> None:
    assert trace_context.upstream_headers(request_with(malformed)) == {}
    assert trace_context.trace_id(request_with(malformed)) == ""


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> io.BytesIO:
    """Return what the gateway logs about requests."""
    output = io.BytesIO()
    logger = structlog.wrap_logger(structlog.BytesLogger(output), cache_logger_on_first_use=False)
    monkeypatch.setattr(settle, "log", logger)
    return output


def log_line(output: io.BytesIO) -> dict[str, Any]:
    """Return the log line of a request, which may be written after the client has got its response."""
    deadline = time.monotonic() + 20
    while not output.getvalue().endswith(b"\n"):
        assert time.monotonic() < deadline, "the request was not logged"
        time.sleep(0.01)
    entry: dict[str, Any] = json.loads(output.getvalue())
    return entry


def test_the_provider_and_the_log_line_get_the_trace(
    gateway: httpx.Client, upstream: LocalUpstream, output: io.BytesIO
) -> None:
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]}
    headers = {"traceparent": TRACEPARENT, "tracestate": "vendor=private"}
    assert gateway.post("/v1/chat/completions", json=body, headers=headers).status_code == 200
    sent = upstream.requests[-1].headers
    assert sent["traceparent"].startswith(f"00-{TRACE_ID}-") and SPAN_ID not in sent["traceparent"]
    assert "tracestate" not in sent
    assert log_line(output)["trace_id"] == TRACE_ID


def test_without_a_trace_none_is_sent(
    gateway: httpx.Client, upstream: LocalUpstream, output: io.BytesIO
) -> None:
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]}
    assert gateway.post("/v1/chat/completions", json=body).status_code == 200
    assert "traceparent" not in upstream.requests[-1].headers
    assert log_line(output)["trace_id"] is None
