"""Absurd amounts in requests: a clear error, no free request, nothing held that should not be."""

import httpx
import pytest

from billing.ledger.spending import spending
from billing.ledger.terms import Spending
from billing.models import Budget, Outcome
from keys.models import ApiKey
from projects.models import Project
from tests.live import LiveGateway, the_record

pytestmark = pytest.mark.databases

CHAT = {"model": "demo/chat", "messages": [{"role": "user", "content": "Hi"}]}
MESSAGES = {**CHAT, "max_tokens": 10}
CONTENTS = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}
LIMIT = 10**6


@pytest.fixture
def client(live_gateway: LiveGateway, demo_project: Project) -> httpx.Client:
    key, token = ApiKey.objects.mint(demo_project, "app")
    Budget.objects.create(project=demo_project, key=key, period="day", limit_nano=LIMIT)
    return httpx.Client(base_url=live_gateway.url, headers={"authorization": f"Bearer {token}"}, timeout=20)


@pytest.mark.parametrize("value", [-1, 0, "5", 1.5, True, [5], 10**18, 10**30])
@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_absurd_output_limits_are_refused_in_openais_words(client: httpx.Client, field: str, value: object) -> None:
    with client:
        answer = client.post("/v1/chat/completions", json={**CHAT, field: value})
    assert answer.status_code in (400, 429)
    error = answer.json()["error"]
    assert error["message"] and (answer.status_code == 429 or field in error["message"] or error["param"] == field)
    assert_nothing_is_spent_or_held()


@pytest.mark.parametrize("value", [-1, 0, "5", 1.5, 10**18])
def test_absurd_output_limits_are_refused_in_anthropics_words(client: httpx.Client, value: object) -> None:
    with client:
        answer = client.post("/v1/messages", json={**MESSAGES, "max_tokens": value})
    assert answer.status_code in (400, 429) and answer.json()["type"] == "error"
    assert_nothing_is_spent_or_held()


@pytest.mark.parametrize("value", [-1, 1.5, 10**18])
def test_absurd_output_limits_are_refused_in_geminis_words(client: httpx.Client, value: object) -> None:
    body = {**CONTENTS, "generationConfig": {"maxOutputTokens": value}}
    with client:
        answer = client.post("/v1beta/models/demo/chat:generateContent", json=body)
    assert answer.status_code in (400, 429) and answer.json()["error"]["code"] == answer.status_code
    assert_nothing_is_spent_or_held()


@pytest.mark.parametrize("value", [-1, 0, "2", 1_000_000, 10**18])
def test_absurd_numbers_of_choices_are_refused(client: httpx.Client, value: object) -> None:
    with client:
        answer = client.post("/v1/chat/completions", json={**CHAT, "max_tokens": 1, "n": value})
    assert answer.status_code in (400, 429)
    assert_nothing_is_spent_or_held()


def test_no_output_limit_at_all_is_held_to_what_the_budget_pays_for(client: httpx.Client) -> None:
    with client:
        answer = client.post("/v1/messages", json={**CHAT, "max_tokens": 10})
        assert answer.status_code == 200
        assert client.post("/v1/chat/completions", json=CHAT).status_code == 200
    the_record(2)
    assert 0 < taken().spent <= LIMIT and taken().reserved == 0


def assert_nothing_is_spent_or_held() -> None:
    assert the_record().outcome in (Outcome.INVALID, Outcome.BUDGET)
    assert taken() == Spending()


def taken() -> Spending:
    budget = Budget.objects.select_related("project").get()
    return spending(budget.project, [budget])[budget.pk]
