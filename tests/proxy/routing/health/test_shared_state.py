"""Health of targets in several processes: what one learns, all know."""

from collections.abc import AsyncIterator

import pytest
from django.conf import settings
from django.core import mail

from billing.alerts.deliver import deliver_emails, due_emails
from billing.models import AdminAlert
from projects.models import Project
from proxy.models import Credential
from proxy.providers.catalog import PROVIDERS
from proxy.routing.accounts import Account, account_from_credential
from proxy.routing.health import background
from proxy.routing.health.alerts import alert_admins
from proxy.routing.health.breaker import FAILURE_THRESHOLD, OPEN_S, BreakerState
from proxy.routing.health.shared_state import SharedState
from proxy.routing.health.target_health import HealthRegistry
from proxy.routing.targets import Target
from proxy.upstream.failures import FailureClass
from tests.support.environment import ON_SERVERS

TARGET = Target(Account("openai", PROVIDERS["openai"], "https://api.openai.com/v1", "sk-own"), "gpt-4o", None)
NOW = 1000.0


class FakeShared(SharedState):
    """The shared state in a dictionary instead of Redis."""

    stored: dict[str, dict[str, float]]

    def __init__(self) -> None:
        self.stored = {}

    async def write(self, key: str, id: str, until: float | None) -> None:
        values = self.stored.setdefault(key, {})
        values.pop(id, None)
        if until is not None:
            values[id] = until

    async def read(self, key: str) -> dict[str, float]:
        return dict(self.stored.get(key, {}))


@pytest.fixture
async def shared() -> AsyncIterator[SharedState]:
    """The shared state in Redis, or in memory without Redis."""
    if not ON_SERVERS:
        yield FakeShared()
        return
    state = SharedState(settings.ENV.redis_url, timeout_s=2)
    await state.open()
    yield state
    await state.close()


def registries() -> tuple[HealthRegistry, HealthRegistry]:
    return HealthRegistry(lambda: NOW), HealthRegistry(lambda: NOW)


async def exchange(shared: SharedState, *all: HealthRegistry) -> None:
    for registry in all:
        await shared.exchange(registry, registry.take_changes())


@pytest.mark.databases
async def test_a_breaker_opens_and_closes_in_all_processes(shared: SharedState) -> None:
    first, second = registries()
    breaker = second.of(1, TARGET).breaker
    for _ in range(FAILURE_THRESHOLD):
        first.of(1, TARGET).record_outage(NOW, "overloaded")
    await exchange(shared, first, second)
    assert breaker.state(NOW) is BreakerState.OPEN
    assert second.of(2, TARGET).breaker.state(NOW) is BreakerState.CLOSED
    assert first.of(1, TARGET).begin_call(NOW + OPEN_S)
    first.of(1, TARGET).record_response()
    await exchange(shared, first, second)
    assert breaker.state(NOW) is BreakerState.CLOSED


@pytest.mark.databases
async def test_a_rejected_credential_is_known_in_all_processes(shared: SharedState) -> None:
    first, second = registries()
    other = second.of(1, TARGET)
    first.of(1, TARGET).record_rejection(NOW, FailureClass.CREDENTIAL, "Insufficient Balance")
    await exchange(shared, first, second)
    assert other.is_skipped(NOW)
    other.record_success(NOW)
    await exchange(shared, second, first)
    assert not first.of(1, TARGET).is_skipped(NOW)


async def test_a_process_without_redis_keeps_its_own_state() -> None:
    registry, _ = registries()
    unreachable = SharedState("redis://127.0.0.1:9/0", timeout_s=0.05)
    for _ in range(FAILURE_THRESHOLD):
        registry.of(1, TARGET).record_outage(NOW, "overloaded")
    await background.exchange_and_alert(registry, unreachable)
    assert registry.of(1, TARGET).breaker.state(NOW) is BreakerState.OPEN


@pytest.mark.django_db(transaction=True)
async def test_admins_get_one_alert_about_a_rejected_credential(project: Project) -> None:
    credential = Credential(project=project, slug="mine", provider="openai")
    credential.set_secret("sk-provider-secret-of-the-project")
    await credential.asave()
    registry, _ = registries()
    target = registry.of(project.pk, Target(account_from_credential(credential), "gpt-4o", None))
    for _ in range(2):
        target.record_rejection(NOW, FailureClass.CREDENTIAL, "Insufficient Balance")
        await background.exchange_and_alert(registry, None)
    alert = await AdminAlert.objects.aget()
    assert "mine" in alert.title and "Insufficient Balance" in alert.text


def test_the_alert_is_sent_to_the_admins(project: Project) -> None:
    alert_admins(project.pk, "mine", "Insufficient Balance")
    deliver_emails(due_emails())
    (message,) = mail.outbox
    assert message.to == ["alice@example.org"] and "mine" in message.subject
