"""Requests with absurd amounts get a clear error, are not free, and leave no reservation open."""

import httpx
import pytest

from billing.ledger.balances import window_balances
from billing.ledger.interface import WindowBalance
from billing.models import Budget, Outcome
from keys.models import ApiKey
from projects.models import Project
from tests.support.live_gateway import LiveGateway, only_record

pytestmark = pytest.mark.databases

CHAT = {"model": "demo/chat", "messages": [{"role": "user", "content": "Hi"}]}
MESSAGES = {**CHAT, "max_tokens": 10}
CONTENTS = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}
LIMIT = 10**6


@pytest.fixture
def client(live_gateway: LiveGateway, demo_project: Project) -> httpx.Client:
    key, token = ApiKey.objects.issue(demo_project, "app")
    Budget.objects.create(project=demo_project, key=key, period="day", limit_nano=LIMIT)
    return httpx.Client(base_url=live_gateway.url, headers={"authorization": f"Bearer {token}"}, timeout=20)


@pytest.mark.parametrize("value", [-1, 0, "5", 1.5, True, [5], 10**18, 10**30])
@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_absurd_output_limits_are_rejected_in_openai_format(
    client: httpx.Client, field: str, value: object
) -> None:
    with client:
        response = client.post("/v1/chat/completions", json={**CHAT, field: value})
    assert response.status_code in (400, 429)
    error = response.json()["error"]
    assert error["message"] and (
        response.status_code == 429 or field in error["message"] or error["param"] == field
    )
    assert_nothing_spent_or_reserved()


@pytest.mark.parametrize("value", [-1, 0, "5", 1.5, 10**18])
def test_absurd_output_limits_are_rejected_in_anthropic_format(client: httpx.Client, value: object) -> None:
    with client:
        response = client.post("/v1/messages", json={**MESSAGES, "max_tokens": value})
    assert response.status_code in (400, 429) and response.json()["type"] == "error"
    assert_nothing_spent_or_reserved()


@pytest.mark.parametrize("value", [-1, 1.5, 10**18])
def test_absurd_output_limits_are_rejected_in_gemini_format(client: httpx.Client, value: object) -> None:
    body = {**CONTENTS, "generationConfig": {"maxOutputTokens": value}}
    with client:
        response = client.post("/v1beta/models/demo/chat:generateContent", json=body)
    assert response.status_code in (400, 429) and response.json()["error"]["code"] == response.status_code
    assert_nothing_spent_or_reserved()


@pytest.mark.parametrize("value", [-1, 0, "2", 1_000_000, 10**18])
def test_absurd_numbers_of_choices_are_rejected(client: httpx.Client, value: object) -> None:
    with client:
        response = client.post("/v1/chat/completions", json={**CHAT, "max_tokens": 1, "n": value})
    assert response.status_code in (400, 429)
    assert_nothing_spent_or_reserved()


def test_missing_output_limit_is_capped_by_the_budget(client: httpx.Client) -> None:
    with client:
        response = client.post("/v1/messages", json={**CHAT, "max_tokens": 10})
        assert response.status_code == 200
        assert client.post("/v1/chat/completions", json=CHAT).status_code == 200
    only_record(2)
    assert 0 < spent_and_reserved().spent <= LIMIT and spent_and_reserved().reserved == 0


def assert_nothing_spent_or_reserved() -> None:
    assert only_record().outcome in (Outcome.INVALID_REQUEST, Outcome.BUDGET_EXCEEDED)
    assert spent_and_reserved() == WindowBalance()


def spent_and_reserved() -> WindowBalance:
    budget = Budget.objects.select_related("project").get()
    return window_balances(budget.project, [budget])[budget.pk]
