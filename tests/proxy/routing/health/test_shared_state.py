"""Health of targets in several processes: what one learns, all know."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import uuid4

import pytest
from aiohttp import web
from django.conf import settings
from django.core import mail

from billing.alerts.deliver import deliver_emails, deliver_webhooks, due_emails, due_webhooks
from billing.models import AdminAlert
from projects.models import Project
from proxy.models import Credential
from proxy.providers.catalog import PROVIDERS
from proxy.routing.accounts import Account, account_from_credential
from proxy.routing.health import background, shared_state
from proxy.routing.health.alerts import alert_admins
from proxy.routing.health.breaker import FAILURE_THRESHOLD, OPEN_S, BreakerState
from proxy.routing.health.published import Problem
from proxy.routing.health.shared_state import STALE_S, SharedState
from proxy.routing.health.target_health import HealthRegistry
from proxy.routing.health.usability import PROBE_INTERVAL_S
from proxy.routing.targets import Target
from proxy.upstream.failures import FailureClass
from tests.support.environment import ON_SERVERS
from tests.support.factories import webhook_at
from tests.support.upstream_server import LocalUpstream

TARGET = Target(Account("openai", PROVIDERS["openai"], "https://api.openai.com/v1", "sk-own"), "gpt-4o", None)
NOW = 1000.0


class FakeShared(SharedState):
    """The shared state in a dictionary instead of Redis."""

    stored: dict[str, dict[str, Problem]]

    def __init__(self) -> None:
        self.stored, self.claimed = {}, set[str]()

    async def write(self, key: str, id: str, problem: Problem | None) -> None:
        values = self.stored.setdefault(key, {})
        values.pop(id, None)
        if problem is not None:
            values[id] = problem

    async def read(self, key: str) -> dict[str, Problem]:
        return dict(self.stored.get(key, {}))

    async def claim_probe(self, id: str) -> bool:
        is_first = id not in self.claimed
        self.claimed.add(id)
        return is_first


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


@pytest.mark.databases
async def test_a_model_without_access_is_skipped_in_all_processes(shared: SharedState) -> None:
    first, second = registries()
    other, other_model = second.of(1, TARGET), second.of(1, replace(TARGET, model="gpt-5"))
    first.of(1, TARGET).record_rejection(NOW, FailureClass.MODEL, "The model does not exist: §")
    await exchange(shared, first, second)
    assert other.is_skipped(NOW) and other.access.reason == "The model does not exist: §"
    assert not other_model.is_skipped(NOW)
    other.record_success(NOW)
    await exchange(shared, second, first)
    assert not first.of(1, TARGET).is_skipped(NOW)


@pytest.mark.databases
async def test_a_process_knows_the_state_of_targets_that_it_has_not_called(shared: SharedState) -> None:
    first, second = registries()
    for _ in range(FAILURE_THRESHOLD):
        first.of(1, TARGET).record_outage(NOW, "overloaded")
    first.of(1, replace(TARGET, model="gpt-5")).record_rejection(NOW, FailureClass.MODEL, "no such model")
    await exchange(shared, first, second)
    assert second.look_up(1, TARGET.account, "gpt-4o").breaker.state(NOW) is BreakerState.OPEN
    assert second.look_up(1, TARGET.account, "gpt-5").access.reason == "no such model"
    assert second.look_up(1, TARGET.account, "gpt-6").breaker.state(NOW) is BreakerState.CLOSED
    assert not list(second)
    assert not second.of(1, TARGET).begin_call(NOW)


@pytest.mark.databases
async def test_one_process_makes_the_probe_of_a_breaker(shared: SharedState) -> None:
    all_registries = registries()
    for registry in all_registries:
        registry.claim = shared.claim_probe
    own_id = replace(TARGET, model=f"gpt-{uuid4()}")
    claims = [await registry.claim_probe(registry.of(1, own_id)) for registry in all_registries]
    assert claims == [True, False]
    of_caller = replace(own_id, account=replace(TARGET.account, is_callers=True))
    assert [await each.claim_probe(each.of(1, of_caller)) for each in all_registries] == [True, True]


async def test_each_process_makes_a_probe_while_redis_is_down() -> None:
    unreachable = SharedState("redis://127.0.0.1:9/0", timeout_s=0.05)
    assert await unreachable.claim_probe("a") and await unreachable.claim_probe("a")


@pytest.mark.databases
async def test_the_shared_state_of_models_is_limited(
    shared: SharedState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_state, "MAX_ENTRIES", 2)
    now = [NOW]
    registry = HealthRegistry(lambda: now[0])
    for number in range(2 * 2):
        target = registry.of(1, replace(TARGET, model=f"invented-{number}"))
        target.record_rejection(NOW, FailureClass.MODEL, "no such model")
        await exchange(shared, registry)
    assert len(registry.published.access) == 2
    now[0] += PROBE_INTERVAL_S + STALE_S
    await exchange(shared, registry)
    assert registry.published.access == {}


async def test_a_recovered_credential_is_not_rejected_again_by_an_old_message() -> None:
    first, second = registries()
    shared = FakeShared()
    first.of(1, TARGET).record_rejection(NOW, FailureClass.CREDENTIAL, "Insufficient Balance")
    await exchange(shared, first, second)
    second.of(1, TARGET).record_success(NOW)
    assert not second.look_up(1, TARGET.account, "gpt-5").is_skipped(NOW)
    second.of(1, replace(TARGET, model="gpt-6"))
    await exchange(shared, second)
    assert not second.of(1, TARGET).is_skipped(NOW) and not second.published.credentials


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


def test_the_alert_is_sent_to_the_webhooks_of_the_project(project: Project, upstream: LocalUpstream) -> None:
    async def accept(_request: web.Request, _body: object) -> web.StreamResponse:
        return web.Response(status=204)

    upstream.handler = accept
    other = Project.objects.create_with_owner("Other", slug="other")
    for owner in (project, other):
        webhook_at(owner, f"{upstream.url}/{owner.slug}")
    alert_admins(project.pk, "mine", "Insufficient Balance")
    assert deliver_webhooks(due_webhooks()) == 1
    (request,) = upstream.requests
    message = json.loads(request.body)
    data = message["data"]
    assert request.path.endswith(project.slug) and message["type"] == "credential.rejected"
    assert (data["project"]["slug"], data["subject"]) == (project.slug, "mine")
    assert "Insufficient Balance" in data["text"] and "mine" in data["title"]


def test_the_alert_is_sent_to_the_admins(project: Project) -> None:
    alert_admins(project.pk, "mine", "Insufficient Balance")
    deliver_emails(due_emails())
    (message,) = mail.outbox
    assert message.to == ["alice@example.org"] and "mine" in message.subject
