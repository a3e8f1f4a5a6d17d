"""A failing message does not block the other messages, and none is sent twice."""

import datetime as dt
import socket
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from django.core import mail
from django.utils import timezone

from billing.alerts import deliver, messages, webhook
from billing.alerts.webhook import UNEXPECTED_ERROR
from billing.models import Alert, Budget, Delivery, DeliveryStatus, Webhook
from billing.models.alerts import CLAIM_TIMEOUT_S, MAX_REASON_LENGTH
from billing.tasks import deliver_alerts, detect_alerts
from projects import outbound_http
from projects.models import Membership, Role, User
from projects.outbound import ResolvedAddress, resolve_public
from tests.support.alerts import make_deliveries_due, spend, with_webhook
from tests.support.factories import USD, webhook_at
from tests.support.upstream_server import LocalUpstream

pytestmark = [pytest.mark.databases, pytest.mark.usefixtures("counters_in_sql")]


@pytest.fixture
def two_webhooks(budget: Budget, receiver: LocalUpstream) -> Webhook:
    """Send alerts to Alice and to the webhooks "good" and "first", and return the webhook "first"."""
    first, _ = webhook_at(budget.project, f"{receiver.url}/first", "first")
    budget.alert_webhooks.set([first, webhook_at(budget.project, f"{receiver.url}/good", "good")[0]])
    spend(budget, 8 * USD)
    detect_alerts()
    return first


def results() -> dict[str, str]:
    """Return the status of each delivery, or its failure reason, by recipient."""
    deliveries = Delivery.objects.select_related("webhook", "member__user")
    return {delivery.recipient: delivery.failure_reason or delivery.status for delivery in deliveries}


ALL_BUT_FIRST = {"alice@example.org": DeliveryStatus.DELIVERED, "good": DeliveryStatus.DELIVERED}


@pytest.mark.parametrize(
    "host", ["a..b", ".example.com", "a" * 64 + ".example", "example.com..", "b." * 200 + "example"]
)
def test_unresolvable_name_fails_only_its_delivery(
    two_webhooks: Webhook, receiver: LocalUpstream, host: str
) -> None:
    Webhook.objects.filter(pk=two_webhooks.pk).update(url=f"https://{host}/hook")
    deliver_alerts()
    assert results() == {
        **ALL_BUT_FIRST,
        "first": f"connection failed: {host} cannot be resolved"[:MAX_REASON_LENGTH],
    }
    assert [call.path for call in receiver.requests] == ["/v1/good"]


@pytest.mark.parametrize(
    "url", ["https://☃.example/hook", "http://[::1/hook", "http://example.com:99999/hook", "nothing"]
)
def test_invalid_address_fails_only_its_delivery(
    two_webhooks: Webhook, receiver: LocalUpstream, url: str
) -> None:
    Webhook.objects.filter(pk=two_webhooks.pk).update(url=url)
    deliver_alerts()
    assert results().items() > ALL_BUT_FIRST.items()
    assert Delivery.objects.get(webhook=two_webhooks).status == DeliveryStatus.PENDING


def failing_for(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `work` so that it raises an unexpected error for one recipient."""

    def run(delivery: Delivery, *args: Any) -> Any:
        if delivery.recipient.startswith(name):
            raise RuntimeError("unexpected")
        return work(delivery, *args)

    return run


def test_any_send_error_is_a_failed_attempt(two_webhooks: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(host: str) -> list[ResolvedAddress]:
        if host == "broken.example":
            raise RuntimeError("unexpected")
        return await resolve_public(host)

    Webhook.objects.filter(pk=two_webhooks.pk).update(url="https://broken.example")
    monkeypatch.setattr(outbound_http, "resolve_public", fail)
    deliver_alerts()
    assert results() == {**ALL_BUT_FIRST, "first": UNEXPECTED_ERROR}


def test_error_in_building_a_webhook_does_not_block_others(
    two_webhooks: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "webhook_payload", failing_for("first", messages.webhook_payload))
    deliver_alerts()
    assert results() == {**ALL_BUT_FIRST, "first": UNEXPECTED_ERROR}


def test_email_error_does_not_block_others(
    two_webhooks: Webhook, bob: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    alert = Alert.objects.get(threshold=80)
    Delivery.objects.create(
        project=two_webhooks.project, alert=alert, member=two_webhooks.project.memberships.get(user=bob)
    )
    monkeypatch.setattr(deliver, "send_email", failing_for("alice", deliver.send_email))
    deliver_alerts()
    all_results = {
        "alice@example.org": UNEXPECTED_ERROR,
        "bob@example.org": DeliveryStatus.DELIVERED,
        "first": DeliveryStatus.DELIVERED,
        "good": DeliveryStatus.DELIVERED,
    }
    assert results() == all_results


def test_webhook_deleted_during_delivery_does_not_block_others(
    two_webhooks: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign = webhook.sign

    def sign_and_delete(*message: Any) -> webhook.SignedWebhook:
        Webhook.objects.filter(pk=two_webhooks.pk).delete()
        return sign(*message)

    monkeypatch.setattr(webhook, "sign", sign_and_delete)
    deliver_alerts()
    assert results() == ALL_BUT_FIRST


def test_hanging_name_server_does_not_delay_a_run(
    two_webhooks: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that resolves the name continues, but nothing waits for it."""
    getaddrinfo = socket.getaddrinfo

    def hang(host: str, *rest: Any, **named: Any) -> Any:
        if host == "slow.example":
            time.sleep(6)
            raise socket.gaierror(socket.EAI_AGAIN, "no response")
        return getaddrinfo(host, *rest, **named)

    Webhook.objects.filter(pk=two_webhooks.pk).update(url="https://slow.example")
    monkeypatch.setattr(socket, "getaddrinfo", hang)
    monkeypatch.setattr(webhook, "RESPONSE_TIMEOUT_S", 1)
    started_at = time.monotonic()
    deliver_alerts()
    assert time.monotonic() - started_at < 4
    assert results() == {**ALL_BUT_FIRST, "first": "no response within 1 seconds"}


class SlowServer:
    """A mail server that needs some time for each message, and moves the clock by this time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds_per_message: float) -> None:
        self.seconds_per_message, self.elapsed_s, self.sent = seconds_per_message, 0.0, list[str]()
        self.meanwhile: Callable[[], object] = lambda: None
        wall = timezone.now()
        monkeypatch.setattr(timezone, "now", lambda: wall + dt.timedelta(seconds=self.elapsed_s))
        monkeypatch.setattr(deliver, "time", SimpleNamespace(monotonic=lambda: self.elapsed_s))
        monkeypatch.setattr(deliver, "send_email", self.send)

    def send(self, delivery: Delivery, _alert: Alert, _member: Membership) -> str:
        self.sent.append(delivery.recipient)
        self.elapsed_s += self.seconds_per_message
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        return ""


@pytest.fixture
def twelve_emails(budget: Budget) -> list[str]:
    users = [User.objects.create_user(f"m{number}@example.org", "x" * 12) for number in range(12)]
    budget.alert_members.set(
        [budget.project.memberships.create(user=user, role=Role.MEMBER) for user in users]
    )
    spend(budget, 10 * USD)
    detect_alerts()
    return sorted(user.email for user in users)


def test_slow_mail_server_does_not_send_emails_twice(
    twelve_emails: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second process starts a run during this one, which lasts longer than the first retry delay."""
    monkeypatch.setattr(deliver, "EMAIL_BATCH_TIMEOUT_S", 1000)
    server = SlowServer(monkeypatch, seconds_per_message=40)
    server.meanwhile = deliver.deliver_due
    assert deliver.deliver_due() == 1
    assert sorted(server.sent) == twelve_emails


def test_slow_mail_server_delays_a_batch_for_seconds_only(
    twelve_emails: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = SlowServer(monkeypatch, seconds_per_message=9)
    assert deliver.deliver_due() == 2
    assert server.elapsed_s == 18
    while deliver.deliver_due():
        pass
    assert sorted(server.sent) == twelve_emails


def test_slow_mail_server_does_not_delay_webhooks(
    twelve_emails: list[str], budget: Budget, receiver: LocalUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "BATCH_SIZE", 3)
    webhook_at(budget.project, receiver.url)[0].deliveries.create(project=budget.project)
    SlowServer(monkeypatch, seconds_per_message=9)
    deliver_alerts()
    assert len(receiver.requests) == 1


def test_claim_outlasts_an_attempt(budget: Budget, receiver: LocalUpstream) -> None:
    with_webhook(budget, receiver.url)
    delivery = Delivery.objects.get()
    assert delivery.claim()
    assert (delivery.next_attempt_at - timezone.now()).total_seconds() > CLAIM_TIMEOUT_S - 10


def test_attempt_of_a_killed_process_is_retried(budget: Budget) -> None:
    spend(budget, 8 * USD)
    detect_alerts()
    assert Delivery.objects.get().claim()
    make_deliveries_due()
    deliver_alerts()
    assert (len(mail.outbox), Delivery.objects.get().attempts) == (1, 2)


def test_stalled_process_does_not_overwrite_a_later_delivery(budget: Budget) -> None:
    spend(budget, 8 * USD)
    detect_alerts()
    stalled = Delivery.objects.get()
    assert stalled.claim()
    make_deliveries_due()
    deliver_alerts()
    stalled.finish_attempt("the mail server did not accept it")
    assert results() == {"alice@example.org": DeliveryStatus.DELIVERED}


def test_failed_attempts_are_retried_with_growing_delays(budget: Budget, receiver: LocalUpstream) -> None:
    async def fail(_request: web.Request, _body: object) -> web.StreamResponse:
        return web.Response(status=500)

    receiver.handler = fail
    with_webhook(budget, receiver.url)
    waits = []
    for _ in range(3):
        deliver_alerts()
        waits.append((Delivery.objects.get().next_attempt_at - timezone.now()).total_seconds())
        make_deliveries_due()
    assert all(
        expected * 0.7 < wait < expected * 1.3 for wait, expected in zip(waits, (30, 120, 480), strict=True)
    )
