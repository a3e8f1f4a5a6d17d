"""Alerts: a budget's window has reached a threshold, or has refused a request; and the messages that tell people and systems so."""

import datetime as dt
import random

from django.db import models
from django.db.models import Q
from django.utils import timezone

from billing.models.budgets import Budget
from billing.models.webhooks import Webhook
from billing.money import format_usd
from projects.ids import uuid7
from projects.models import Membership, Project

FIRST_RETRY_S = 30
RETRY_FACTOR = 4
RETRY_JITTER = 0.2
MAX_ATTEMPTS = 7
CLAIM_TIMEOUT_S = 300
"""Longer than an attempt takes: a mail server may use up its timeout at each of a dozen steps."""
MAX_REASON_LENGTH = 200
REFUSAL_THRESHOLD = 0
"""In place of a threshold: a request was refused. A hard budget stops before the last of it is spent, where no request fits."""


class AlertQuerySet(models.QuerySet["Alert"]):
    def latest_for(self, project: Project, count: int) -> "AlertQuerySet":
        found = self.filter(budget__project=project).select_related("budget__key", "budget__project")
        return found.prefetch_related("deliveries__webhook", "deliveries__member__user").order_by(
            "-created_at", "-threshold"
        )[:count]


class Alert(models.Model):
    """One threshold of one budget, reached in one of its windows, or its first refusal there: once, whoever finds it first."""

    budget = models.ForeignKey(Budget, models.CASCADE, related_name="alerts")
    window = models.CharField(max_length=10)
    threshold = models.PositiveSmallIntegerField(
        help_text=f"Percent of the limit; {REFUSAL_THRESHOLD}: a request was refused."
    )
    spent_nano = models.BigIntegerField()
    limit_nano = models.BigIntegerField()
    created_at = models.DateTimeField(default=timezone.now)

    objects = AlertQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["budget", "window", "threshold"], name="unique_alert")]

    def __str__(self) -> str:
        what = "refusal by" if self.is_refusal else f"{self.threshold} % of"
        return f"{what} {self.budget} in {self.window}: {format_usd(self.spent_nano)}"

    @property
    def is_refusal(self) -> bool:
        return self.threshold == REFUSAL_THRESHOLD

    @property
    def percent(self) -> int | None:
        """How much of the limit was spent, rounded down; None of a limit of nothing."""
        return self.spent_nano * 100 // self.limit_nano if self.limit_nano else None

    def create_deliveries(self) -> None:
        """Puts a message for each of the budget's recipients into the outbox."""
        to_people = [
            Delivery(project_id=self.budget.project_id, alert=self, member=member)
            for member in self.budget.alert_members.all()
        ]
        to_systems = [
            Delivery(project_id=self.budget.project_id, alert=self, webhook=hook)
            for hook in self.budget.alert_webhooks.all()
        ]
        Delivery.objects.bulk_create([*to_people, *to_systems])


class DeliveryStatus(models.TextChoices):
    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class DeliveryQuerySet(models.QuerySet["Delivery"]):
    def due(self) -> "DeliveryQuerySet":
        related = self.select_related(
            "alert__budget__key", "alert__budget__project", "member__user", "webhook", "project"
        )
        return related.filter(status=DeliveryStatus.PENDING, next_attempt_at__lte=timezone.now()).order_by(
            "next_attempt_at"
        )

    def test_deliveries_for(self, project: Project, count: int) -> "DeliveryQuerySet":
        return self.filter(project=project, alert=None).select_related("webhook").order_by("-pk")[:count]


class Delivery(models.Model):
    """One message to one recipient, tried until it arrives or has been tried often enough.

    Its id is the message's, the same at every attempt, so that a receiver can tell a repetition.
    """

    id = models.UUIDField(primary_key=True, default=uuid7)
    project = models.ForeignKey(Project, models.CASCADE, related_name="+")
    alert = models.ForeignKey(
        Alert, models.CASCADE, null=True, related_name="deliveries", help_text="Empty: a test."
    )
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

    def claim(self) -> bool:
        """Takes the next attempt for this process alone, until it is concluded. Should it die with it, the attempt after that comes when
        no process can still be making this one.
        """
        claimed = Delivery.objects.filter(
            pk=self.pk, status=DeliveryStatus.PENDING, next_attempt_at=self.next_attempt_at
        )
        self.attempts += 1
        self.next_attempt_at = timezone.now() + max(
            retry_after(self.attempts), dt.timedelta(seconds=CLAIM_TIMEOUT_S)
        )
        return claimed.update(attempts=self.attempts, next_attempt_at=self.next_attempt_at) == 1

    def finish_attempt(self, failure_reason: str, *, is_permanent: bool = False) -> None:
        """Notes how an attempt went; an empty reason is success. A `is_permanent` failure is not tried again, and a test never is.

        The message may be gone by now, with the webhook that was deleted or the member who left; or, where this process stood still for
        longer than its claim, another may have made the next attempt, and says how that went. Then there is nothing to note.
        """
        self.failure_reason = failure_reason[:MAX_REASON_LENGTH]
        if not failure_reason:
            self.status = DeliveryStatus.DELIVERED
        elif is_permanent or self.alert_id is None or self.attempts >= MAX_ATTEMPTS:
            self.status = DeliveryStatus.FAILED
        if self.status == DeliveryStatus.PENDING:
            self.next_attempt_at = timezone.now() + retry_after(self.attempts)
        else:
            self.finished_at = timezone.now()
        values = {
            name: getattr(self, name)
            for name in ("failure_reason", "status", "next_attempt_at", "finished_at")
        }
        Delivery.objects.filter(pk=self.pk, attempts=self.attempts).update(**values)


def retry_after(attempts: int) -> dt.timedelta:
    """30 seconds, 2 minutes, 8, 32 and so on to some eight hours: jittered, so that what failed together is not repeated together."""
    return dt.timedelta(
        seconds=FIRST_RETRY_S
        * RETRY_FACTOR ** (attempts - 1)
        * random.uniform(1 - RETRY_JITTER, 1 + RETRY_JITTER)
    )
