"""Retries and fallbacks: which targets are called, what the client gets, and what is on the record."""

import json
from dataclasses import replace

import httpx
import pytest
from aiohttp import web

from billing.ledger.balances import window_balances
from billing.models import Budget, Outcome
from billing.pricing.price import PER_MILLION
from keys.models import ApiKey
from projects.models import Project
from proxy.formats.registry import CODECS
from proxy.pipeline.admission import DEFAULT_MAX_OUTPUT
from tests.support.api_calls import STREAMS, ask
from tests.support.faulty_targets import (
    Behaviour,
    FaultyTarget,
    FaultyTargets,
    open_with_error,
    refuse,
    reset_before_response,
    send_web_page,
    status,
    succeed,
    truncate,
)
from tests.support.live_gateway import LiveGateway, only_record

CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 10}


def chat(gateway: httpx.Client, **fields: object) -> httpx.Response:
    return gateway.post("/v1/chat/completions", json={**CHAT, **fields})


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("failure", [status(500), status(429, retry_after="0"), open_with_error])
def test_a_failing_call_is_retried(
    gateway: httpx.Client, targets: FaultyTargets, failure: Behaviour, stream: bool
) -> None:
    targets.retries = 3
    target = targets.add("a", failure, failure, succeed)
    response = chat(gateway, stream=stream)
    assert response.status_code == 200 and "Hello from a" in response.text
    assert response.headers["x-gateway-attempts"] == "3" and target.calls == 3
    record = only_record()
    assert (record.outcome, record.cost_nano) == (Outcome.OK, target.cost_nano)
    assert [attempt["status"] for attempt in record.attempts or []][2] == 200


@pytest.mark.parametrize("failure", [truncate, send_web_page])
def test_a_broken_body_is_retried(gateway: httpx.Client, targets: FaultyTargets, failure: Behaviour) -> None:
    targets.retries = 1
    target = targets.add("a", failure, succeed)
    response = chat(gateway)
    assert response.status_code == 200 and "Hello from a" in response.text
    record = only_record()
    assert [attempt["error"] for attempt in record.attempts or []] == ["bad_upstream_answer", ""]
    assert record.estimated and record.cost_nano > target.cost_nano


@pytest.mark.parametrize("format", CODECS)
def test_a_broken_body_is_an_error_in_the_clients_format(
    live_gateway: LiveGateway, token: str, targets: FaultyTargets, format: str
) -> None:
    targets.add("a", send_web_page, format=format)
    response = ask(live_gateway, token, format, stream=False)
    error = CODECS[format].parse_error(response.status_code, response.content)
    assert (response.status_code, error.kind) == (502, "server_error")
    assert response.headers["content-type"] == "application/json" and "not JSON" in error.message
    assert only_record().error == "bad_upstream_answer"


def test_a_stream_that_is_declared_as_json_passes(gateway: httpx.Client, targets: FaultyTargets) -> None:
    stream = b"".join(STREAMS["openai_chat"]("Hello", None, 1))

    async def declare_json(_target: FaultyTarget, _request: web.Request, _body: object) -> web.Response:
        return web.Response(body=stream, content_type="application/json")

    targets.add("a", declare_json)
    assert chat(gateway, stream=True).content == stream


def test_failed_calls_are_not_counted_as_time_in_the_gateway(
    gateway: httpx.Client, targets: FaultyTargets
) -> None:
    targets.retries = 1
    targets.add("a", status(500, retry_after_ms="300"), succeed)
    response = chat(gateway)
    assert response.headers["x-gateway-attempts"] == "2"
    overhead_ms = float(response.headers["x-gateway-overhead-ms"])
    assert response.elapsed.total_seconds() * 1000 - overhead_ms >= 300


def test_retries_end_after_the_configured_number(gateway: httpx.Client, targets: FaultyTargets) -> None:
    targets.retries = 2
    target = targets.add("a", status(500, "out of order"))
    response = chat(gateway)
    assert response.status_code == 500 and "out of order" in response.text
    assert target.calls == 3 and response.headers["x-gateway-attempts"] == "3"
    record = only_record()
    assert record.cost_nano == 0 and record.outcome == Outcome.UPSTREAM_ERROR
    assert [attempt["status"] for attempt in record.attempts or []] == [500, 500, 500]


def test_a_call_without_a_response_has_no_status(gateway: httpx.Client, targets: FaultyTargets) -> None:
    targets.retries = 1
    targets.add("a", refuse)
    assert chat(gateway).status_code == 502
    assert [attempt["status"] for attempt in only_record().attempts or []] == [0, 0]


@pytest.mark.parametrize("failure", [status(400, "bad"), status(404), status(422)])
def test_a_clients_own_error_is_final(
    gateway: httpx.Client, targets: FaultyTargets, failure: Behaviour
) -> None:
    targets.retries = 3
    first, second = targets.add("a", failure), targets.add("b")
    assert chat(gateway).status_code in {400, 404, 422}
    assert (first.calls, second.calls) == (1, 0)


@pytest.mark.databases
@pytest.mark.parametrize("stream", [False, True])
def test_the_next_target_serves_in_another_format(
    live_gateway: LiveGateway, token: str, targets: FaultyTargets, stream: bool
) -> None:
    targets.add("a", reset_before_response, format="gemini")
    second = targets.add("b", format="anthropic", usd=3)
    response = ask(live_gateway, token, "openai_chat", stream=stream)
    assert response.status_code == 200 and "Hello from b" in response.text
    assert response.headers["x-gateway-provider"] == "b"
    assert response.headers["x-gateway-model"] == "model-b"
    assert response.headers["x-gateway-attempts"] == "2"
    record = only_record()
    assert (record.provider, record.provider_model, record.estimated) == ("b", "model-b", True)
    first, last = record.attempts or []
    assert first["cost_nano"] > 0 and last["cost_nano"] == second.cost_nano
    assert record.cost_nano == first["cost_nano"] + last["cost_nano"]
    assert (first["provider"], first["status"], first["error"]) == ("a", 0, "upstream_unreachable")
    assert [line.amount_femto // PER_MILLION for line in record.cost_lines] == [
        first["cost_nano"],
        last["cost_nano"],
    ]


def test_a_target_that_cannot_serve_the_request_is_left_out(
    gateway: httpx.Client, targets: FaultyTargets
) -> None:
    first, second = targets.add("a", format="anthropic"), targets.add("b")
    audio = {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}
    messages = [{"role": "user", "content": [audio]}]
    assert chat(gateway, messages=messages).status_code == 200
    assert (first.calls, second.calls) == (0, 1)
    targets.order("a")
    assert chat(gateway, messages=messages).status_code == 400


def test_an_unpriced_target_is_left_out_under_a_hard_budget(
    gateway: httpx.Client, targets: FaultyTargets, demo_project: Project
) -> None:
    first, second = targets.add("a"), targets.add("b")
    first.target = replace(first.target, price=None)
    key = ApiKey.objects.get(project=demo_project)
    Budget.objects.create(project=demo_project, key=key, period="day", limit_nano=10**9)
    assert chat(gateway).status_code == 200 and (first.calls, second.calls) == (0, 1)
    targets.order("a")
    assert "price" in chat(gateway).text and first.calls == 0


@pytest.mark.parametrize(
    ("failure", "stream"), [(reset_before_response, False), (reset_before_response, True), (truncate, False)]
)
def test_a_hard_budget_with_room_covers_every_retry(
    gateway: httpx.Client, targets: FaultyTargets, demo_project: Project, failure: Behaviour, stream: bool
) -> None:
    """A call that may be billed uses a part of the reservation, so the reservation is extended."""
    targets.retries = 3
    target = targets.add("a", failure, failure, failure, succeed)
    key = ApiKey.objects.get(project=demo_project)
    budget = Budget.objects.create(project=demo_project, key=key, period="day", limit_nano=10**12)
    response = chat(gateway, stream=stream)
    assert response.status_code == 200 and target.calls == 4
    record = only_record()
    lost = [attempt["cost_nano"] for attempt in (record.attempts or [])[:3]]
    assert min(lost) > 0 and record.cost_nano == sum(lost) + target.cost_nano <= (record.reserved_nano or 0)
    assert all(json.loads(each.body)["max_tokens"] == 10 for each in targets.upstream.requests)
    (balance,) = window_balances(demo_project, [budget]).values()
    assert (balance.spent, balance.reserved) == (record.cost_nano, 0)


def key_with_room_for_one_call(
    gateway: httpx.Client, project: Project, **fields: object
) -> tuple[dict[str, str], int]:
    """Make a call, and create a budget with room for another one.

    Returns the header with a new key, and the amount of a reservation.
    """
    assert chat(gateway, **fields).status_code == 200
    first = only_record()
    reserved = first.reserved_nano or 0
    Budget.objects.create(project=project, period="day", limit_nano=first.cost_nano + reserved)
    return {"x-api-key": ApiKey.objects.issue(project, "second")[1], "authorization": ""}, reserved


def test_a_hard_budget_stops_calls_that_it_does_not_cover(
    gateway: httpx.Client, targets: FaultyTargets, demo_project: Project
) -> None:
    targets.retries = 3
    target = targets.add("a", succeed, reset_before_response, succeed)
    headers, reserved = key_with_room_for_one_call(gateway, demo_project)
    response = gateway.post("/v1/chat/completions", json=CHAT, headers=headers)
    record = only_record(2)
    assert response.status_code == 502 and target.calls == 2
    assert record.cost_nano <= (record.reserved_nano or 0) == reserved


def test_the_output_limit_follows_from_what_is_left_of_the_reservation(
    gateway: httpx.Client, targets: FaultyTargets, demo_project: Project
) -> None:
    targets.add("a", succeed, reset_before_response)
    targets.add("b")
    headers, reserved = key_with_room_for_one_call(gateway, demo_project, max_tokens=None)
    body = {**CHAT, "max_tokens": None}
    assert gateway.post("/v1/chat/completions", json=body, headers=headers).status_code == 200
    record, bodies = only_record(2), [json.loads(each.body) for each in targets.upstream.requests[1:]]
    limits = [body.get("max_tokens") or body["max_completion_tokens"] for body in bodies]
    assert limits[0] == DEFAULT_MAX_OUTPUT > limits[1] > DEFAULT_MAX_OUTPUT - 100
    charged = (record.attempts or [])[0]["cost_nano"]
    assert charged + limits[1] * 2000 <= (record.reserved_nano or 0) == reserved


def test_a_context_length_error_reaches_a_larger_model_only_by_rule(
    gateway: httpx.Client, targets: FaultyTargets
) -> None:
    too_long = status(400, "This model's maximum context length is 8 tokens", code="context_length_exceeded")
    first, second = targets.add("a", too_long), targets.add("b")
    assert chat(gateway).status_code == 400 and (first.calls, second.calls) == (1, 0)
    targets.retries_context_length = True
    assert chat(gateway).status_code == 200 and (first.calls, second.calls) == (2, 1)


@pytest.mark.parametrize("header", [{"retry_after": "60"}, {"retry_after_ms": "60000"}])
def test_a_long_delay_goes_to_the_next_target(
    gateway: httpx.Client, targets: FaultyTargets, header: dict[str, str]
) -> None:
    targets.retries = 3
    first, second = targets.add("a", status(429, **header)), targets.add("b")
    assert chat(gateway).status_code == 200 and (first.calls, second.calls) == (1, 1)


def test_the_next_credential_is_called_at_once_after_a_rate_limit(
    gateway: httpx.Client, targets: FaultyTargets
) -> None:
    targets.retries = 3
    limited = status(429, retry_after="9")
    first, second = targets.add("a", limited, model="m"), targets.add("b", limited, succeed, model="m")
    targets.add("c", model="m")
    response = chat(gateway)
    assert "Hello from c" in response.text and response.elapsed.total_seconds() < 8
    assert (first.calls, second.calls) == (1, 1)


def test_the_last_credential_is_retried_after_a_rate_limit(
    gateway: httpx.Client, targets: FaultyTargets
) -> None:
    targets.retries = 1
    limited = status(429, retry_after="0")
    first, second = targets.add("a", limited, model="m"), targets.add("b", limited, succeed, model="m")
    assert "Hello from b" in chat(gateway).text
    assert (first.calls, second.calls) == (1, 2)


def test_a_disconnect_ends_the_wait_for_a_retry(gateway: httpx.Client, targets: FaultyTargets) -> None:
    targets.retries = 3
    target = targets.add("a", status(500, retry_after="9"))
    with pytest.raises(httpx.ReadTimeout):
        gateway.post("/v1/chat/completions", json=CHAT, timeout=0.3)
    record = only_record()
    assert record.outcome == Outcome.CLIENT_CLOSED and target.calls == 1
    assert [attempt["status"] for attempt in record.attempts or []] == [500]


def test_rate_limits_of_an_own_anthropic_credential_are_forwarded(
    live_gateway: LiveGateway, token: str, targets: FaultyTargets
) -> None:
    limits = {"anthropic_ratelimit_requests_remaining": "7", "x_ratelimit_remaining_requests": "5"}
    target = targets.add("a", status(400, **limits), format="anthropic", trusted=False)
    headers = ask(live_gateway, token, "anthropic", stream=False).headers
    assert headers["anthropic-ratelimit-requests-remaining"] == "7"
    assert "x-ratelimit-remaining-requests" not in headers
    assert (
        "anthropic-ratelimit-requests-remaining"
        not in ask(live_gateway, token, "openai_chat", stream=False).headers
    )
    account = replace(target.target.account, trusted=True)
    target.target = replace(target.target, account=account)
    headers = ask(live_gateway, token, "anthropic", stream=False).headers
    assert "anthropic-ratelimit-requests-remaining" not in headers


def test_a_hard_budget_covers_the_most_expensive_target(
    gateway: httpx.Client, targets: FaultyTargets, demo_project: Project
) -> None:
    targets.add("a", status(500))
    expensive = targets.add("b", usd=100)
    key = ApiKey.objects.get(project=demo_project)
    budget = Budget.objects.create(project=demo_project, key=key, period="day", limit_nano=10**9)
    response = chat(gateway)
    assert response.status_code == 200
    record = only_record()
    assert record.cost_nano == expensive.cost_nano <= (record.reserved_nano or 0) <= budget.limit_nano
