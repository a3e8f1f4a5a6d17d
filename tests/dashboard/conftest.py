"""Fixtures of the tests of pages: a credential, and a project with something on every page."""

import datetime as dt

import pytest
from django.utils import timezone

from billing.models import Budget, BudgetWindow, Outcome, Period
from keys.models import ApiKey
from projects.models import Project
from proxy.models import Credential
from proxy.providers import key_check
from tests.support.factories import SECRET, USD, daily, record


@pytest.fixture(autouse=True)
def provider_reply(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bytes]]:
    """Replace the network in tests of credentials: the provider's reply is the last entry of this list."""
    replies = [(200, b"{}")]

    async def reply(url: str, provider: object, secret: str) -> tuple[int, bytes]:
        return replies[-1]

    monkeypatch.setattr(key_check, "fetch", reply)
    return replies


@pytest.fixture
def credential(project: Project) -> Credential:
    credential = Credential(project=project, slug="openai", provider="openai", model_names=["gpt-4o-mini"])
    credential.set_secret(SECRET)
    credential.save()
    return credential


@pytest.fixture
def busy_project(project: Project, key: ApiKey, credential: Credential) -> Project:
    """Project with records, usage of the month, budgets, and a key in each state."""
    today = project.today()
    budget = Budget.objects.create(project=project, key=key, period=Period.DAY, limit_nano=10 * USD)
    BudgetWindow.objects.create(
        budget=budget, name=today.isoformat(), spent_nano=3 * USD, reserved_nano=1 * USD
    )
    Budget.objects.create(project=project, period=Period.MONTH, limit_nano=0)
    record(key, cost_nano=2 * USD)
    record(key, outcome=Outcome.UPSTREAM_ERROR)
    daily(key, today.replace(day=1), 40 * USD)
    ApiKey.objects.issue(project, "old laptop", expires_at=timezone.now() - dt.timedelta(days=1))
    ApiKey.objects.issue(project, "leaked")[0].revoke()
    return project
