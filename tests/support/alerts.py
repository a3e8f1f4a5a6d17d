"""Spending, denials and deliveries for tests of alerts."""

import datetime as dt
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django.utils import timezone

from billing.models import Alert, Budget, BudgetWindow, Delivery, Outcome, UsageRecord, Webhook
from billing.tasks import detect_alerts
from projects.ids import uuid7
from tests.support.factories import USD, record, webhook_at


def spend(budget: Budget, nano: int, day: dt.date | None = None) -> None:
    name = (day or budget.project.today()).isoformat()
    BudgetWindow.objects.update_or_create(budget=budget, name=name, defaults={"spent_nano": nano})


def deny(budget: Budget, day: dt.date | None = None) -> None:
    assert budget.key is not None
    denied = record(budget.key, outcome=Outcome.BUDGET_EXCEEDED, day=day)
    UsageRecord.objects.filter(pk=denied.pk).update(id=uuid7(), blocking_budget_id=budget.pk)


def thresholds(budget: Budget) -> list[int]:
    return sorted(Alert.objects.filter(budget=budget).values_list("threshold", flat=True))


def with_webhook(budget: Budget, url: str) -> tuple[Webhook, str]:
    """Send alerts only to this URL, and create an alert."""
    webhook, secret = webhook_at(budget.project, url)
    budget.alert_members.clear()
    budget.alert_webhooks.add(webhook)
    spend(budget, 8 * USD)
    detect_alerts()
    return webhook, secret


def make_deliveries_due() -> None:
    Delivery.objects.update(next_attempt_at=timezone.now() - dt.timedelta(seconds=1))


@contextmanager
def raw_server(response: bytes | None) -> Iterator[str]:
    """Run a server that sends these bytes in response to any request, or nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)

        def serve() -> None:
            client, _ = server.accept()
            with client:
                client.settimeout(5 if response is None else 0.2)
                with suppress(TimeoutError):
                    while client.recv(65536):
                        pass
                client.sendall(response or b"")

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/hook"
        thread.join()
