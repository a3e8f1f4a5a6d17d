"""Health of accounts with the keys of callers, and of other accounts."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from projects.models import Project
from proxy.models import Credential
from proxy.providers.catalog import PROVIDERS
from proxy.routing.accounts import DEMO_ACCOUNT, Account
from proxy.routing.health import target_health
from proxy.routing.health.target_health import REPORT_INTERVAL_S, HealthRegistry
from proxy.routing.targets import Target
from proxy.upstream.failures import FailureClass

OWN = Target(Account("openai", PROVIDERS["openai"], "https://api.openai.com/v1", "sk-own"), "gpt-4o", None)


def of_caller(secret: str) -> Target:
    return replace(OWN, account=replace(OWN.account, secret=secret, is_callers=True))


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """Results that are stored for the page of credentials: project, name and reason."""
    results: list[tuple[object, ...]] = []

    def submit(_with_reconnect: object, _query: object, *result: object) -> None:
        results.append(result)

    monkeypatch.setattr(target_health, "db_executor", SimpleNamespace(submit=submit))
    return results


def test_results_of_clients_are_stored_from_time_to_time(stored: list[tuple[object, ...]]) -> None:
    health = HealthRegistry().of(1, OWN)
    for now in (1000, 1001, 1000 + REPORT_INTERVAL_S):
        health.record_success(now)
    assert stored == [(1, "openai", ""), (1, "openai", "")]
    for _ in range(2):
        health.record_rejection(1302, FailureClass.CREDENTIAL, "insufficient_quota")
    assert stored[2:] == [(1, "openai", "The provider rejects requests of clients: insufficient_quota")]
    health.record_success(1303)
    assert stored[3:] == [(1, "openai", "")]


def test_only_results_of_a_projects_credentials_are_stored(stored: list[tuple[object, ...]]) -> None:
    operators = replace(OWN, account=replace(OWN.account, trusted=True))
    for target in (of_caller("sk-1"), operators, Target(DEMO_ACCOUNT, "demo/chat", None)):
        health = HealthRegistry().of(1, target)
        health.record_success(1000)
        for _ in range(5):
            health.record_rejection(1000, FailureClass.CREDENTIAL, "invalid_api_key")
    assert stored == []


@pytest.mark.django_db
def test_a_result_of_clients_is_shown_with_the_credential(project: Project) -> None:
    credential = Credential.objects.create(project=project, slug="openai", provider="openai")
    Credential.objects.store_live_result(project.pk, "openai", "no credit")
    Credential.objects.store_live_result(project.pk, "deleted", "no credit")
    credential.refresh_from_db()
    assert credential.is_failing and credential.last_error == "no credit"
    Credential.objects.store_live_result(project.pk, "openai", "")
    credential.refresh_from_db()
    assert not credential.is_failing


def test_callers_keys_do_not_change_the_health_of_a_credential(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target_health, "MAX_TARGETS", 3)
    registry = HealthRegistry()
    own = registry.of(1, OWN)
    for number in range(10):
        health = registry.of(1, of_caller(f"sk-{number}"))
        for _ in range(5):
            health.record_rejection(0, FailureClass.CREDENTIAL, "invalid_api_key")
            health.record_outage(0, "500")
        assert not health.is_skipped(0) and health.breaker.is_open
    assert registry.of(1, OWN) is own and not own.breaker.is_open and not own.is_skipped(0)
    assert list(registry) == [own] and len(registry.callers_targets) == 3


def test_each_key_of_a_caller_has_its_own_breaker() -> None:
    registry = HealthRegistry()
    first, second = registry.of(1, of_caller("sk-1")), registry.of(1, of_caller("sk-2"))
    for _ in range(5):
        first.record_outage(0, "rate_limit_exceeded")
    assert first.breaker.is_open and not second.breaker.is_open
    assert registry.of(1, of_caller("sk-1")) is first
