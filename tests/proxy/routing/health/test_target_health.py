"""Health of accounts with the keys of callers, beside that of other accounts."""

from dataclasses import replace

import pytest

from proxy.providers.catalog import PROVIDERS
from proxy.routing.accounts import Account
from proxy.routing.health import target_health
from proxy.routing.health.target_health import HealthRegistry
from proxy.routing.targets import Target
from proxy.upstream.failures import FailureClass

OWN = Target(Account("openai", PROVIDERS["openai"], "https://api.openai.com/v1", "sk-own"), "gpt-4o", None)


def of_caller(secret: str) -> Target:
    return replace(OWN, account=replace(OWN.account, secret=secret, is_callers=True))


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
