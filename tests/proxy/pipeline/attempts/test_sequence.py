"""Retries and fallbacks: which targets are called, what the client gets, and what is on the record."""

import httpx
import pytest

from billing.models import Budget, Outcome
from keys.models import ApiKey
from projects.models import Project
from tests.support.api_calls import FORMATS, ask
from tests.support.faulty_targets import (
    Behaviour,
    FaultyTargets,
    open_with_error,
    refuse,
    reset_before_response,
    status,
    succeed,
)
from tests.support.live_gateway import LiveGateway, only_record

CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 10}


def chat(gateway: httpx.Client, **fields: object) -> httpx.Response:
    return gateway.post("/v1/chat/completions", json={**CHAT, **fields})


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("failure", [status(500), status(529), status(429, retry_after="0"), open_with_error])
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


def test_retries_end_after_the_configured_number(gateway: httpx.Client, targets: FaultyTargets) -> None:
    targets.retries = 2
    target = targets.add("a", status(500, "out of order"))
    response = chat(gateway)
    assert response.status_code == 500 and "out of order" in response.text
    assert target.calls == 3 and response.headers["x-gateway-attempts"] == "3"
    record = only_record()
    assert record.cost_nano == 0 and record.outcome == Outcome.UPSTREAM_ERROR
    assert [attempt["status"] for attempt in record.attempts or []] == [500, 500, 500]


@pytest.mark.parametrize("failure", [status(400, "bad"), status(404), status(422)])
def test_a_clients_own_error_is_final(
    gateway: httpx.Client, targets: FaultyTargets, failure: Behaviour
) -> None:
    targets.retries = 3
    first, second = targets.add("a", failure), targets.add("b")
    assert chat(gateway).status_code in {400, 404, 422}
    assert (first.calls, second.calls) == (1, 0)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    "failure", [refuse, reset_before_response, status(500), status(402), status(401), open_with_error]
)
def test_the_next_target_serves_in_another_format(
    live_gateway: LiveGateway,
    token: str,
    targets: FaultyTargets,
    failure: Behaviour,
    format: str,
    stream: bool,
) -> None:
    first = targets.add("a", failure, format=format)
    second = targets.add("b", format="anthropic" if format == "openai_chat" else "openai_chat", usd=3)
    response = ask(live_gateway, token, format, stream=stream)
    assert response.status_code == 200 and "Hello from b" in response.text
    assert response.headers["x-gateway-provider"] == "b"
    assert response.headers["x-gateway-model"] == "model-b"
    assert response.headers["x-gateway-attempts"] == "2"
    record = only_record()
    assert (record.provider, record.provider_model) == ("b", "model-b")
    assert (first.calls, second.calls) == (0 if failure is refuse else 1, 1)
    charged = [attempt["cost_nano"] for attempt in record.attempts or []]
    assert record.cost_nano == sum(charged) and charged[1] == second.cost_nano
    assert record.estimated is (failure is reset_before_response)


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
