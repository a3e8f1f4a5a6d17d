"""Page of alerts."""

import datetime as dt

from django.urls import reverse
from django.utils import timezone

from billing.models import Alert, Budget, Delivery, DeliveryStatus, Period
from keys.models import ApiKey
from projects.models import Project, User
from tests.support.factories import USD, signed_in, webhook_at
from tests.support.pages import open_page


def test_alerts_are_listed_with_their_messages(project: Project, key: ApiKey, alice: User, bob: User) -> None:
    budget = Budget.objects.create(project=project, key=key, period=Period.DAY, limit_nano=10 * USD)
    hook, _ = webhook_at(project, "https://example.org/hook")
    alert = Alert.objects.create(
        budget=budget, window="2026-11-20", threshold=80, spent_nano=8 * USD, limit_nano=10 * USD
    )
    Delivery.objects.create(
        project=project,
        alert=alert,
        member=project.memberships.get(user=alice),
        status=DeliveryStatus.DELIVERED,
        attempts=1,
    )
    later = timezone.now() + dt.timedelta(minutes=2)
    waiting = {"attempts": 2, "failure_reason": "the response had status <500>", "next_attempt_at": later}
    Delivery.objects.create(project=project, alert=alert, webhook=hook, **waiting)
    page = open_page(bob, "alert-list", project)
    for text in (
        "app daily 80 %",
        "$8.00 of $10.00 spent",
        "delivered alice@example.org",
        "pending pager",
        "Attempt 2:",
        "Next at",
    ):
        assert text in page
    assert "<500>" not in signed_in(bob).get(reverse("alert-list", args=[project.slug])).content.decode()


def test_alerts_of_another_project_are_not_listed(project: Project, key: ApiKey, charlie: User) -> None:
    budget = Budget.objects.create(project=project, key=key, period=Period.DAY, limit_nano=10 * USD)
    Alert.objects.create(
        budget=budget, window="2026-11-20", threshold=80, spent_nano=8 * USD, limit_nano=10 * USD
    )
    webhook_at(project, "https://example.org/hook")
    own = Project.objects.create_with_owner("Charlie's", owner=charlie)
    page = open_page(charlie, "alert-list", own)
    assert "No alerts yet" in page and "pager" not in page
