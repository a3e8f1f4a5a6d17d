"""Failing targets and rejected credentials: which calls are made, and what the client gets."""

from collections.abc import Callable

import httpx
import pytest

from billing.models import Outcome, UsageRecord
from proxy.formats.registry import CODECS
from proxy.routing.health.breaker import OPEN_S
from proxy.routing.health.target_health import claim_locally, health
from proxy.routing.health.usability import PROBE_INTERVAL_S
from tests.support.api_calls import FORMATS, ask
from tests.support.faulty_targets import (
    Behaviour,
    FaultyTargets,
    close_in_body,
    hang,
    open_with_error,
    status,
    succeed,
)
from tests.support.live_gateway import LiveGateway, wait_until

CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 10}


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, change_environment: Callable[..., None]) -> Clock:
    """A clock of the health of targets, which is on."""
    change_environment(ai_gateway_breaker="on")
    clock = Clock()
    monkeypatch.setattr(health, "clock", clock)
    # Redis keeps the mark of a probe for ten seconds of the real time.
    monkeypatch.setattr(health, "claim", claim_locally)
    return clock


def chat(gateway: httpx.Client, **fields: object) -> httpx.Response:
    return gateway.post("/v1/chat/completions", json={**CHAT, **fields})


@pytest.mark.parametrize("status_code", [400, 404, 408, 409, 413, 422, 429])
def test_failures_that_requests_can_cause_do_not_open_a_breaker(
    gateway: httpx.Client, targets: FaultyTargets, clock: Clock, status_code: int
) -> None:
    target = targets.add("a", status(status_code))
    assert {chat(gateway).status_code for _ in range(7)} == {status_code}
    assert target.calls == 7


def test_a_rate_limited_target_is_avoided_until_its_retry_after(
    gateway: httpx.Client, targets: FaultyTargets, clock: Clock
) -> None:
    limited, other = targets.add("a", status(429, retry_after="20")), targets.add("b")
    assert [chat(gateway).status_code for _ in range(3)] == [200] * 3
    assert (limited.calls, other.calls) == (1, 3)
    clock.now += 20
    limited.behaviours = [succeed]
    chat(gateway)
    assert (limited.calls, other.calls) == (2, 3)


def test_the_only_target_is_called_in_spite_of_its_rate_limit(
    gateway: httpx.Client, targets: FaultyTargets, clock: Clock
) -> None:
    target = targets.add("a", status(429, retry_after="3600"))
    assert [chat(gateway).status_code for _ in range(2)] == [429, 429] and target.calls == 2


def test_a_routes_timeout_does_not_open_the_breaker_of_a_shared_account(
    gateway: httpx.Client, targets: FaultyTargets, clock: Clock
) -> None:
    target = targets.add("a", hang, timeout_s=0.05)
    assert {chat(gateway).status_code for _ in range(6)} == {504} and target.calls == 6


def test_an_upstream_that_is_down_gets_few_calls(
    gateway: httpx.Client, targets: FaultyTargets, clock: Clock
) -> None:
    targets.retries = 3
    target = targets.add("a", status(500))
    responses = [chat(gateway) for _ in range(20)]
    assert target.calls == 5
    assert [response.status_code for response in responses[2:]] == [503] * 18
    assert responses[-1].headers["retry-after"] == str(OPEN_S)
    clock.now += OPEN_S
    assert [chat(gateway).status_code for _ in range(3)][1:] == [503, 503] and target.calls == 6
    target.behaviours = [succeed]
    clock.now += OPEN_S
    assert [chat(gateway).status_code for _ in range(3)] == [200, 200, 200]


def test_no_call_is_made_while_another_process_makes_the_probe(
    gateway: httpx.Client, targets: FaultyTargets, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = targets.add("a", status(500))
    for _ in range(5):
        chat(gateway)

    async def deny(id: str) -> bool:
        return False

    monkeypatch.setattr(health, "claim", deny)
    clock.now += OPEN_S
    response = chat(gateway)
    assert (response.status_code, response.headers["retry-after"], target.calls) == (503, str(OPEN_S), 5)
    monkeypatch.setattr(health, "claim", claim_locally)
    target.behaviours = [succeed]
    clock.now += OPEN_S
    assert chat(gateway).status_code == 200


def test_retries_without_a_breaker_are_bounded_by_their_budget(
    gateway: httpx.Client, targets: FaultyTargets
) -> None:
    targets.retries = 3
    target = targets.add("a", status(500))
    for _ in range(60):
        chat(gateway)
    assert 60 < target.calls <= 1.2 * 60


@pytest.mark.parametrize("format", FORMATS)
def test_the_error_of_an_open_breaker_is_in_the_clients_format(
    live_gateway: LiveGateway, token: str, targets: FaultyTargets, clock: Clock, format: str
) -> None:
    target = targets.add("a", status(500), format=format)
    for _ in range(5):
        ask(live_gateway, token, format, stream=False)
    response = ask(live_gateway, token, format, stream=False)
    assert (response.status_code, response.headers["retry-after"], target.calls) == (503, "10", 5)
    assert "has failed repeatedly" in CODECS[format].parse_error(503, response.content).message


def test_the_other_target_serves_while_a_breaker_is_open(
    gateway: httpx.Client, targets: FaultyTargets, clock: Clock
) -> None:
    first, second = targets.add("a", status(500)), targets.add("b")
    responses = [chat(gateway) for _ in range(8)]
    assert {response.status_code for response in responses} == {200}
    assert (first.calls, second.calls) == (5, 8)
    assert responses[-1].headers["x-gateway-attempts"] == "1"


def test_broken_streams_open_the_breaker(gateway: httpx.Client, targets: FaultyTargets, clock: Clock) -> None:
    target = targets.add("a", close_in_body)
    for _ in range(5):
        assert chat(gateway, stream=True).status_code == 200
    wait_until(
        lambda: UsageRecord.objects.filter(outcome=Outcome.UPSTREAM_ERROR, status_code=502).count() == 5
    )
    assert chat(gateway, stream=True).status_code == 503 and target.calls == 5


@pytest.mark.parametrize("failure", [status(400), status(404), status(422)])
def test_a_clients_own_errors_do_not_open_the_breaker(
    gateway: httpx.Client, targets: FaultyTargets, clock: Clock, failure: Behaviour
) -> None:
    target = targets.add("a", failure)
    for _ in range(8):
        chat(gateway)
    assert target.calls == 8


OUT_OF_CREDIT = {
    "openai_chat": status(429, "You exceeded your current quota", code="insufficient_quota"),
    "anthropic": status(400, "Your credit balance is too low to access the Anthropic API."),
    "gemini": status(429, "Your prepayment credits are depleted."),
}


@pytest.mark.parametrize("format", OUT_OF_CREDIT)
def test_a_credential_out_of_credit_is_skipped_and_comes_back(
    gateway: httpx.Client, targets: FaultyTargets, clock: Clock, format: str
) -> None:
    first = targets.add("a", OUT_OF_CREDIT[format], format=format, trusted=False)
    second = targets.add("b", trusted=False)
    assert {chat(gateway).status_code for _ in range(4)} == {200}
    assert (first.calls, second.calls) == (1, 4)
    clock.now += PROBE_INTERVAL_S
    assert {chat(gateway).status_code for _ in range(4)} == {200} and first.calls == 2
    first.behaviours = [succeed]
    clock.now += PROBE_INTERVAL_S
    assert {chat(gateway).headers["x-gateway-provider"] for _ in range(3)} == {"a"}


@pytest.mark.parametrize("failure", [status(401, "Incorrect API key"), status(402, "Insufficient Balance")])
def test_the_only_credential_is_always_called(
    gateway: httpx.Client, targets: FaultyTargets, clock: Clock, failure: Behaviour
) -> None:
    target = targets.add("a", failure, trusted=False)
    responses = [chat(gateway) for _ in range(8)]
    assert target.calls == 8 and len({response.status_code for response in responses}) == 1
    assert responses[-1].status_code in {402, 502}


def test_a_credential_without_access_keeps_its_other_models(
    gateway: httpx.Client, targets: FaultyTargets, clock: Clock
) -> None:
    no_access = status(403, "Project `p` does not have access to model `model-a`", code="model_not_found")
    first, second = targets.add("a", no_access, trusted=False), targets.add("b", trusted=False)
    assert {chat(gateway).status_code for _ in range(3)} == {200}
    assert (first.calls, second.calls) == (1, 3)
    other = targets.add("a", trusted=False, model="other")
    targets.order("a", "b")
    assert chat(gateway).headers["x-gateway-model"] == "other" and other.calls == 1


def test_one_project_cannot_take_a_shared_account_from_the_others(
    gateway: httpx.Client, targets: FaultyTargets, clock: Clock
) -> None:
    behaviours = [status(401), status(401), succeed] * 4
    first, _ = targets.add("a", *behaviours), targets.add("b")
    for _ in range(12):
        assert chat(gateway).status_code == 200
    assert first.calls == 12


def test_without_health_and_retries_the_gateway_is_transparent(
    gateway: httpx.Client, targets: FaultyTargets
) -> None:
    target = targets.add("a", status(500), trusted=False)
    assert [chat(gateway).status_code for _ in range(8)] == [500] * 8
    target.behaviours = [status(402)]
    assert [chat(gateway).status_code for _ in range(3)] == [402] * 3
    assert target.calls == 11


def test_an_error_event_that_opens_a_stream_counts(
    gateway: httpx.Client, targets: FaultyTargets, clock: Clock
) -> None:
    target = targets.add("a", open_with_error)
    responses = [chat(gateway, stream=True) for _ in range(6)]
    assert target.calls == 5 and responses[-1].status_code == 503


def test_metrics_count_breakers_and_rejected_credentials(
    gateway: httpx.Client, targets: FaultyTargets, clock: Clock
) -> None:
    targets.add("a", status(500), trusted=False)
    for _ in range(5):
        chat(gateway)
    targets.add("a", status(402), model="other", trusted=False)
    chat(gateway)
    lines = gateway.get("/metrics").text.splitlines()
    assert 'gateway_circuit_breakers{provider="compatible",state="open"} 1.0' in lines
    assert 'gateway_circuit_breakers{provider="compatible",state="closed"} 1.0' in lines
    assert 'gateway_rejected_credentials{provider="compatible"} 1.0' in lines
    assert any(line.startswith('gateway_upstream_failures_total{failure="retry"') for line in lines)
