"""Alerts are created once, and are delivered by e-mail and signed webhooks even if a receiver fails."""

import base64
import datetime as dt
import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Callable
from smtplib import SMTPServerDisconnected
from typing import Any

import pytest
from aiohttp import web
from django.core import mail
from django.db import connection
from django.utils import timezone

from billing.alerts import deliver, detect, webhook
from billing.models import (
    DENIAL_THRESHOLD,
    Alert,
    Budget,
    BudgetWindow,
    Delivery,
    DeliveryStatus,
    UsageRecord,
    Webhook,
)
from billing.models.alerts import MAX_ATTEMPTS
from billing.tasks import deliver_alerts, detect_alerts
from keys.models import ApiKey
from projects import outbound_http
from projects.ids import uuid7_floor
from projects.models import Project, User
from projects.outbound import ResolvedAddress
from tests.support.alerts import deny, make_deliveries_due, raw_server, spend, thresholds, with_webhook
from tests.support.factories import USD, record, webhook_at
from tests.support.upstream_server import LocalUpstream

pytestmark = [pytest.mark.databases, pytest.mark.usefixtures("counters_in_sql")]


def test_each_threshold_alerts_once_in_a_period(budget: Budget) -> None:
    spend(budget, 5 * USD - 1)
    assert detect_alerts() == 0
    for nano, expected in ((5 * USD, [50]), (6 * USD, [50]), (8 * USD, [50, 80]), (11 * USD, [50, 80, 100])):
        spend(budget, nano)
        detect_alerts()
        detect_alerts()
        assert thresholds(budget) == expected
    assert Delivery.objects.count() == 3


def test_several_thresholds_at_once_send_one_message_for_the_highest(budget: Budget) -> None:
    spend(budget, 10 * USD)
    assert detect_alerts() == 1
    assert thresholds(budget) == [50, 80, 100]
    assert Delivery.objects.get().alert == Alert.objects.get(threshold=100)


def test_new_period_alerts_again(budget: Budget) -> None:
    Alert.objects.create(budget=budget, window="2020-01-01", threshold=100, spent_nano=1, limit_nano=1)
    spend(budget, 10 * USD)
    assert detect_alerts() == 1


def test_spending_just_before_midnight_alerts(budget: Budget, monkeypatch: pytest.MonkeyPatch) -> None:
    midnight = budget.project.end_of_day(budget.project.today())
    spend(budget, 9 * USD)
    monkeypatch.setattr(timezone, "now", lambda: midnight + dt.timedelta(minutes=5))
    assert detect_alerts() == 1
    assert Alert.objects.latest("pk").window == (midnight - dt.timedelta(days=1)).date().isoformat()


def test_reserved_amount_does_not_alert(budget: Budget) -> None:
    BudgetWindow.objects.create(
        budget=budget, name=budget.project.today().isoformat(), spent_nano=1, reserved_nano=10 * USD
    )
    assert detect_alerts() == 0


def test_limit_of_zero_alerts_only_after_spending(budget: Budget) -> None:
    Budget.objects.update(limit_nano=0)
    assert detect_alerts() == 0
    spend(budget, 1)
    assert detect_alerts() == 1


def test_new_budget_counts_earlier_records(budget: Budget, key: ApiKey) -> None:
    record(key, cost_nano=6 * USD)
    assert detect_alerts() == 1


def test_budget_without_thresholds_never_alerts(budget: Budget) -> None:
    Budget.objects.update(thresholds=[])
    spend(budget, 20 * USD)
    assert detect_alerts() == 0


def test_first_denial_of_a_period_alerts_once(budget: Budget) -> None:
    """A hard budget can deny requests before its spent amount reaches the last threshold."""
    spend(budget, 4 * USD)
    for _ in range(2):
        deny(budget)
        detect_alerts()
    assert thresholds(budget) == [DENIAL_THRESHOLD]
    spend(budget, 10 * USD)
    assert detect_alerts() == 1
    assert thresholds(budget) == [DENIAL_THRESHOLD, 50, 80, 100]
    deny(budget, budget.project.today() - dt.timedelta(days=1))
    assert detect_alerts() == 1


def test_denial_by_another_budget_or_long_ago_does_not_alert(budget: Budget) -> None:
    deny(budget)
    UsageRecord.objects.update(blocking_budget_id=budget.pk + 1)
    assert detect_alerts() == 0
    UsageRecord.objects.update(
        blocking_budget_id=budget.pk, id=uuid7_floor(timezone.now() - dt.timedelta(hours=2))
    )
    assert detect_alerts() == 0


def test_message_about_a_denial_says_so(budget: Budget, receiver: LocalUpstream) -> None:
    budget.alert_webhooks.set([webhook_at(budget.project, receiver.url)[0]])
    spend(budget, 9 * USD + 1)
    Budget.objects.update(thresholds=[100])
    deny(budget)
    detect_alerts()
    deliver_alerts()
    message = mail.outbox[0]
    assert "Requests are denied by the" in message.subject and "% of" not in message.subject
    assert "A request was denied because it could have exceeded this budget." in message.body
    sent = receiver.requests[0].body if isinstance(receiver.requests[0].body, bytes) else b""
    event = json.loads(sent)
    assert event["type"] == "budget.request_refused" and event["data"]["threshold_percent"] is None
    assert event["data"]["spent_nano_usd"] == 9 * USD + 1


def run_concurrently(count: int, work: Callable[[], Any]) -> list[Any]:
    """Call `work` from several threads that start at the same time."""
    barrier, results = threading.Barrier(count), []

    def run() -> None:
        barrier.wait()
        try:
            results.append(work())
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_concurrent_processes_create_one_alert(transactional_db: None, budget: Budget) -> None:
    spend(budget, 10 * USD)
    assert sum(run_concurrently(6, detect.detect_alerts)) == 1
    assert thresholds(budget) == [50, 80, 100]
    assert Delivery.objects.count() == 1


def test_concurrent_processes_send_one_message(transactional_db: None, budget: Budget) -> None:
    spend(budget, 10 * USD)
    detect_alerts()
    assert sum(run_concurrently(4, deliver.deliver_due)) == 1
    assert len(mail.outbox) == 1


def test_attempt_is_claimed_once(budget: Budget) -> None:
    spend(budget, 10 * USD)
    detect_alerts()
    mine, theirs = Delivery.objects.due().get(), Delivery.objects.due().get()
    assert mine.claim()
    assert not theirs.claim()
    assert not Delivery.objects.due().exists()


def test_email_goes_to_the_recipients_with_the_main_facts(budget: Budget, bob: User) -> None:
    Project.objects.update(name="Ac\nme", timezone="America/New_York")
    budget.alert_members.add(budget.project.memberships.get(user=bob))
    spend(budget, 8 * USD, dt.datetime.now(Project.objects.get().tzinfo).date())
    detect_alerts()
    deliver_alerts()
    assert {message.to[0] for message in mail.outbox} == {"alice@example.org", "bob@example.org"}
    message = mail.outbox[0]
    assert message.subject == "[Ac me] 80 % of the daily budget of the key “app” is spent"
    for text in (
        "$8.00 of $10.00 is spent (80 %)",
        "00:00 (America/New_York)",
        "Requests that could exceed it are denied.",
        "/budgets/",
    ):
        assert text in message.body
    assert set(Delivery.objects.values_list("status", "attempts")) == {(DeliveryStatus.DELIVERED, 1)}


def test_former_members_get_no_messages(budget: Budget, alice: User) -> None:
    spend(budget, 8 * USD)
    detect_alerts()
    budget.project.memberships.filter(user=alice).delete()
    deliver_alerts()
    assert mail.outbox == []


def test_failed_email_is_retried(budget: Budget, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_self: object, **_: object) -> int:
        raise SMTPServerDisconnected("please try later")

    spend(budget, 8 * USD)
    detect_alerts()
    with monkeypatch.context() as broken:
        broken.setattr("django.core.mail.EmailMessage.send", fail)
        deliver_alerts()
    delivery = Delivery.objects.get()
    assert (delivery.status, delivery.failure_reason) == (
        DeliveryStatus.PENDING,
        "the mail server did not accept it: please try later",
    )
    make_deliveries_due()
    deliver_alerts()
    assert len(mail.outbox) == 1


def test_webhook_is_signed_as_specified(budget: Budget, receiver: LocalUpstream) -> None:
    _, secret = with_webhook(budget, f"{receiver.url}/hook?token=a")
    deliver_alerts()
    call = receiver.requests[0]
    signed = f"{call.headers['webhook-id']}.{call.headers['webhook-timestamp']}.".encode() + call.body
    digest = hmac.new(base64.b64decode(secret.removeprefix("whsec_")), signed, hashlib.sha256).digest()
    assert call.headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"
    assert abs(int(call.headers["webhook-timestamp"]) - time.time()) < 5
    body = json.loads(call.body)
    assert body["type"] == "budget.threshold_reached"
    assert body["data"]["threshold_percent"] == 80
    assert (body["data"]["spent_nano_usd"], body["data"]["spent_usd"]) == (8 * USD, "8")
    assert body["data"]["budget"]["key"]["name"] == "app"
    assert Delivery.objects.get().status == DeliveryStatus.DELIVERED


def test_signature_matches_the_reference_libraries() -> None:
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signature = webhook.signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}')
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_failed_webhook_is_retried_later_with_the_same_id(budget: Budget, receiver: LocalUpstream) -> None:
    statuses = iter((500, 204))

    async def recover(_request: web.Request, _body: object) -> web.StreamResponse:
        return web.Response(status=next(statuses))

    receiver.handler = recover
    with_webhook(budget, receiver.url)
    deliver_alerts()
    delivery = Delivery.objects.get()
    assert (delivery.status, delivery.attempts, delivery.failure_reason) == (
        DeliveryStatus.PENDING,
        1,
        "the response had status 500",
    )
    assert 20 < (delivery.next_attempt_at - timezone.now()).total_seconds() < 40
    deliver_alerts()
    assert len(receiver.requests) == 1
    make_deliveries_due()
    deliver_alerts()
    delivery.refresh_from_db()
    assert (delivery.status, delivery.attempts, delivery.failure_reason) == (DeliveryStatus.DELIVERED, 2, "")
    assert len({call.headers["webhook-id"] for call in receiver.requests}) == 1


def test_delivery_stops_after_the_last_attempt(budget: Budget, receiver: LocalUpstream) -> None:
    async def refuse(_request: web.Request, _body: object) -> web.StreamResponse:
        return web.Response(status=503)

    receiver.handler = refuse
    with_webhook(budget, receiver.url)
    for _ in range(MAX_ATTEMPTS + 2):
        deliver_alerts()
        make_deliveries_due()
    assert (Delivery.objects.get().status, len(receiver.requests)) == (DeliveryStatus.FAILED, MAX_ATTEMPTS)


def test_status_410_is_not_retried(budget: Budget, receiver: LocalUpstream) -> None:
    async def gone(_request: web.Request, _body: object) -> web.StreamResponse:
        return web.Response(status=410)

    receiver.handler = gone
    with_webhook(budget, receiver.url)
    deliver_alerts()
    assert Delivery.objects.get().status == DeliveryStatus.FAILED


def test_redirect_is_not_followed(budget: Budget, receiver: LocalUpstream) -> None:
    async def redirect(_request: web.Request, _body: object) -> web.StreamResponse:
        return web.Response(status=307, headers={"location": "/elsewhere"})

    receiver.handler = redirect
    with_webhook(budget, receiver.url)
    deliver_alerts()
    assert "redirect (status 307)" in Delivery.objects.get().failure_reason
    assert [call.path for call in receiver.requests] == ["/v1"]


def test_endless_response_is_not_read(budget: Budget, receiver: LocalUpstream) -> None:
    async def pour(request: web.Request, _body: object) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65536)

    receiver.handler = pour
    with_webhook(budget, receiver.url)
    deliver_alerts()
    assert Delivery.objects.get().status == DeliveryStatus.DELIVERED


@pytest.mark.parametrize(
    "response", [b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 2x\r\n\r\n", b"\0\xff" * 5000, b""]
)
def test_invalid_http_is_a_failed_attempt(budget: Budget, response: bytes) -> None:
    with raw_server(response) as url:
        with_webhook(budget, url)
        deliver_alerts()
    assert Delivery.objects.get().failure_reason == "the response is not valid HTTP"


def test_hanging_receiver_does_not_delay_others(
    budget: Budget, receiver: LocalUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "RESPONSE_TIMEOUT_S", 0.5)
    with raw_server(None) as url:
        other, _ = webhook_at(budget.project, receiver.url, "second")
        budget.alert_webhooks.add(other)
        with_webhook(budget, url)
        started_at = time.monotonic()
        deliver_alerts()
    assert time.monotonic() - started_at < 4
    assert set(Delivery.objects.values_list("webhook__name", "status")) == {
        ("pager", DeliveryStatus.PENDING),
        ("second", DeliveryStatus.DELIVERED),
    }
    assert "no response within" in Delivery.objects.get(status=DeliveryStatus.PENDING).failure_reason


def test_refused_connection_is_a_failed_attempt(budget: Budget) -> None:
    with_webhook(budget, "http://127.0.0.1:1/hook")
    deliver_alerts()
    assert "connection failed" in Delivery.objects.get().failure_reason


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "2130706433", "169.254.169.254"])
def test_webhooks_cannot_reach_the_operators_network(
    budget: Budget, receiver: LocalUpstream, no_private_hosts: None, host: str
) -> None:
    port = receiver.url.rpartition(":")[2]
    with_webhook(budget, f"http://{host}:{port}/hook")
    deliver_alerts()
    assert "is a private address" in Delivery.objects.get().failure_reason
    assert receiver.requests == []


def test_host_is_resolved_once_and_that_address_is_used(
    budget: Budget, receiver: LocalUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server that changes its answer (DNS rebinding) cannot redirect the connection."""
    resolved_hosts: list[str] = []

    async def resolve_once(host: str) -> list[ResolvedAddress]:
        resolved_hosts.append(host)
        return [ResolvedAddress(socket.AF_INET, "127.0.0.1")]

    monkeypatch.setattr(outbound_http, "resolve_public", resolve_once)
    port = receiver.url.rpartition(":")[2].removesuffix("/v1")
    with_webhook(budget, f"http://hooks.example:{port}/hook")
    deliver_alerts()
    assert resolved_hosts == ["hooks.example"]
    assert receiver.requests[0].headers["host"] == f"hooks.example:{port}"


def test_undecryptable_secret_is_reported(budget: Budget, receiver: LocalUpstream) -> None:
    hook, _ = with_webhook(budget, receiver.url)
    Webhook.objects.filter(pk=hook.pk).update(sealed_secret="garbage")
    deliver_alerts()
    assert "cannot be decrypted" in Delivery.objects.get().failure_reason
    assert receiver.requests == []


def test_test_delivery_is_attempted_once(project: Project, receiver: LocalUpstream) -> None:
    hook, _ = webhook_at(project, "http://127.0.0.1:1/hook")
    hook.deliveries.create(project=project)
    deliver_alerts()
    assert Delivery.objects.get().status == DeliveryStatus.FAILED
