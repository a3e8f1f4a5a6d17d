"""Alerts about budgets, alerts to the admins of a project, and the deliveries of both."""

import datetime as dt
import random

from django.db import models, transaction
from django.db.models import Q
from django.utils import timezone

from billing.models.budgets import Budget
from billing.models.webhooks import Webhook
from billing.money import format_usd
from projects.ids import uuid7
from projects.models import Membership, Project, Role

FIRST_RETRY_S = 30
RETRY_FACTOR = 4
RETRY_JITTER = 0.2
MAX_ATTEMPTS = 7
CLAIM_TIMEOUT_S = 300
"""How long a claim lasts. It is longer than any attempt can take.

An e-mail takes about a dozen SMTP commands, and each of them may take the whole timeout.
"""
MAX_REASON_LENGTH = 200
MAX_TITLE_LENGTH = 200
DENIAL_THRESHOLD = 0
"""The value of `threshold` in an alert about a denied request.

A hard budget can deny a request before its limit is reached, because the remainder is too small.
"""


class AdminEvent(models.TextChoices):
    MODEL_RETIRING = "model.retiring", "model retires"
    MODEL_UNPRICED = "model.unpriced", "model without a price"
    CREDENTIAL_REJECTED = "credential.rejected", "credential rejected"


class AlertQuerySet(models.QuerySet["Alert"]):
    def latest_for(self, project: Project, count: int) -> "AlertQuerySet":
        alerts = self.filter(budget__project=project).select_related("budget__key", "budget__project")
        related = alerts.prefetch_related("deliveries__webhook", "deliveries__member__user")
        return related.order_by("-created_at", "-threshold")[:count]


class Alert(models.Model):
    """An alert: a budget reached a threshold, or denied its first request, in one of the budget's windows.

    The unique constraint ensures that only one process creates the alert and its messages.
    """

    budget = models.ForeignKey(Budget, models.CASCADE, related_name="alerts")
    window = models.CharField(max_length=10)
    threshold = models.PositiveSmallIntegerField(
        help_text=f"Percent of the limit; {DENIAL_THRESHOLD}: a request was denied."
    )
    spent_nano = models.BigIntegerField()
    limit_nano = models.BigIntegerField()
    created_at = models.DateTimeField(default=timezone.now)

    objects = AlertQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["budget", "window", "threshold"], name="unique_alert")]

    def __str__(self) -> str:
        event = "denial by" if self.is_denial else f"{self.threshold} % of"
        return f"{event} {self.budget} in {self.window}: {format_usd(self.spent_nano)}"

    @property
    def is_denial(self) -> bool:
        return self.threshold == DENIAL_THRESHOLD

    @property
    def percent(self) -> int | None:
        """The spent part of the limit in percent, rounded down; None if the limit is 0."""
        return self.spent_nano * 100 // self.limit_nano if self.limit_nano else None

    def create_deliveries(self) -> None:
        """Create a pending delivery for each recipient of the budget's alerts."""
        to_members = [
            Delivery(project_id=self.budget.project_id, alert=self, member=member)
            for member in self.budget.alert_members.all()
        ]
        to_webhooks = [
            Delivery(project_id=self.budget.project_id, alert=self, webhook=webhook)
            for webhook in self.budget.alert_webhooks.all()
        ]
        Delivery.objects.bulk_create([*to_members, *to_webhooks])


class AdminAlertQuerySet(models.QuerySet["AdminAlert"]):
    def latest_for(self, project: Project, count: int) -> "AdminAlertQuerySet":
        related = self.filter(project=project).prefetch_related(
            "deliveries__webhook", "deliveries__member__user"
        )
        return related.order_by("-created_at", "-pk")[:count]

    @transaction.atomic
    def raise_once(
        self, project: Project, event: AdminEvent, subject: str, occasion: str, title: str, text: str
    ) -> bool:
        """Create an alert, and a delivery for each admin and each webhook of the project.

        Return False if there is such an alert already.

        If several processes detect the same event, the unique constraint lets only one create the alert.
        """
        values = {"title": title[:MAX_TITLE_LENGTH], "text": text}
        alert, is_new = self.get_or_create(
            project=project, event=event, subject=subject, occasion=occasion, defaults=values
        )
        if is_new:
            alert.create_deliveries()
        return is_new


class AdminAlert(models.Model):
    """An alert to the admins of a project about something other than a budget.

    `subject` is what it is about, such as a model. `occasion` tells two events about one subject apart, such
    as the day of a retirement.
    """

    project = models.ForeignKey(Project, models.CASCADE, related_name="admin_alerts")
    event = models.CharField(max_length=40, choices=AdminEvent.choices)
    subject = models.CharField(max_length=200)
    occasion = models.CharField(max_length=40)
    title = models.CharField(max_length=MAX_TITLE_LENGTH)
    text = models.TextField()
    created_at = models.DateTimeField(default=timezone.now)

    objects = AdminAlertQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["project", "event", "subject", "occasion"], name="unique_admin_alert"
            )
        ]

    def __str__(self) -> str:
        return f"{self.title} ({self.project})"

    def create_deliveries(self) -> None:
        """Create a pending delivery for each admin and each webhook of the project."""
        admins = self.project.memberships.filter(role__gte=Role.ADMIN)
        to_admins = [Delivery(project=self.project, admin_alert=self, member=member) for member in admins]
        to_webhooks = [
            Delivery(project=self.project, admin_alert=self, webhook=webhook)
            for webhook in Webhook.objects.for_project(self.project)
        ]
        Delivery.objects.bulk_create([*to_admins, *to_webhooks])


class DeliveryStatus(models.TextChoices):
    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class DeliveryQuerySet(models.QuerySet["Delivery"]):
    def due(self) -> "DeliveryQuerySet":
        related = self.select_related(
            "alert__budget__key",
            "alert__budget__project",
            "admin_alert__project",
            "member__user",
            "webhook",
            "project",
        )
        due = related.filter(status=DeliveryStatus.PENDING, next_attempt_at__lte=timezone.now())
        return due.order_by("next_attempt_at")

    def test_deliveries_for(self, project: Project, count: int) -> "DeliveryQuerySet":
        tests = self.filter(project=project, alert=None, admin_alert=None)
        return tests.select_related("webhook").order_by("-pk")[:count]


class Delivery(models.Model):
    """A message to one recipient. It is retried until it is delivered or MAX_ATTEMPTS is reached.

    The id is sent with the message. It is the same at every attempt, so that receivers can detect duplicates.
    """

    id = models.UUIDField(primary_key=True, default=uuid7)
    project = models.ForeignKey(Project, models.CASCADE, related_name="+")
    alert = models.ForeignKey(
        Alert,
        models.CASCADE,
        null=True,
        related_name="deliveries",
        help_text="Empty: a test message, or an alert to admins.",
    )
    admin_alert = models.ForeignKey(AdminAlert, models.CASCADE, null=True, related_name="deliveries")
    member = models.ForeignKey(Membership, models.CASCADE, null=True, related_name="+")
    webhook = models.ForeignKey(Webhook, models.CASCADE, null=True, related_name="deliveries")
    status = models.CharField(max_length=10, choices=DeliveryStatus.choices, default=DeliveryStatus.PENDING)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField(default=timezone.now)
    failure_reason = models.CharField(
        max_length=MAX_REASON_LENGTH, blank=True, help_text="Why the last attempt failed."
    )
    created_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True)

    objects = DeliveryQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "deliveries"
        constraints = [
            models.CheckConstraint(
                condition=Q(member=None) ^ Q(webhook=None), name="delivery_has_one_recipient"
            )
        ]
        indexes = [
            models.Index(
                fields=["next_attempt_at"],
                condition=Q(status=DeliveryStatus.PENDING),
                name="delivery_pending",
            )
        ]

    def __str__(self) -> str:
        return f"{self.recipient}: {self.status}"

    @property
    def recipient(self) -> str:
        return self.webhook.name if self.webhook else self.member.user.email if self.member else ""

    @property
    def is_test(self) -> bool:
        """True for a test message, which is about no alert."""
        return self.alert_id is None and self.admin_alert_id is None

    def claim(self) -> bool:
        """Claim the next attempt, and return whether this process has the claim.

        The claim is a compare-and-set in SQL, so that only one process gets it. If this process dies, the
        delivery becomes due again after at least CLAIM_TIMEOUT_S.
        """
        unclaimed = Delivery.objects.filter(
            pk=self.pk, status=DeliveryStatus.PENDING, next_attempt_at=self.next_attempt_at
        )
        self.attempts += 1
        claim_timeout = dt.timedelta(seconds=CLAIM_TIMEOUT_S)
        self.next_attempt_at = timezone.now() + max(retry_after(self.attempts), claim_timeout)
        return unclaimed.update(attempts=self.attempts, next_attempt_at=self.next_attempt_at) == 1

    def finish_attempt(self, failure_reason: str, *, is_permanent: bool = False) -> None:
        """Record the result of an attempt. An empty reason means that the message was delivered.

        Permanent failures and test messages are not retried. Nothing is recorded if the delivery was deleted
        together with its webhook or member, or if the claim of this process has expired and another process
        has made the next attempt.
        """
        self.failure_reason = failure_reason[:MAX_REASON_LENGTH]
        if not failure_reason:
            self.status = DeliveryStatus.DELIVERED
        elif is_permanent or self.is_test or self.attempts >= MAX_ATTEMPTS:
            self.status = DeliveryStatus.FAILED
        if self.status == DeliveryStatus.PENDING:
            self.next_attempt_at = timezone.now() + retry_after(self.attempts)
        else:
            self.finished_at = timezone.now()
        columns = ("failure_reason", "status", "next_attempt_at", "finished_at")
        values = {name: getattr(self, name) for name in columns}
        Delivery.objects.filter(pk=self.pk, attempts=self.attempts).update(**values)


def retry_after(attempts: int) -> dt.timedelta:
    """Return the delay before the next attempt: 30 seconds, 2 minutes, 8 minutes, up to about 8.5 hours.

    Random jitter spreads the retries of deliveries that failed at the same time.
    """
    jitter = random.uniform(1 - RETRY_JITTER, 1 + RETRY_JITTER)
    return dt.timedelta(seconds=FIRST_RETRY_S * RETRY_FACTOR ** (attempts - 1) * jitter)
