"""Budgets, their windows, and the reservations of requests in flight.

Tables that the ledger writes have no foreign key constraints in the database. With them, the ledger could not
write an amount whose key or project was deleted in the meantime.
"""

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Case, F, Q, SmallIntegerField, When

from billing.models.webhooks import Webhook
from billing.money import format_usd
from keys.models import ApiKey
from projects.models import Membership, Project, audited, invalidates_config_cache

MAX_THRESHOLD = 1000
MAX_THRESHOLDS = 10


class Period(models.TextChoices):
    DAY = "day", "daily"
    WEEK = "week", "weekly"
    MONTH = "month", "monthly"
    TOTAL = "total", "total"


class Mode(models.TextChoices):
    """The action of a budget if a request would exceed it."""

    HARD = "hard", "deny requests"
    SOFT = "soft", "only warn"
    SHADOW = "shadow", "only record which requests it would have denied"


class BudgetQuerySet(models.QuerySet["Budget"]):
    def for_project(self, project: Project) -> "BudgetQuerySet":
        """Select the budgets of a project: project-wide ones before those of keys, short periods first."""
        length = Case(
            *(When(period=period, then=n) for n, period in enumerate(Period)),
            output_field=SmallIntegerField(),
        )
        found = self.filter(project=project).select_related("key")
        return found.order_by(F("key__label").asc(nulls_first=True), "key", length, "mode")


def default_thresholds() -> list[int]:
    return [50, 80, 100]


def validate_thresholds(thresholds: list[int]) -> None:
    """Raise ValidationError unless the thresholds are ascending percentages.

    They can exceed 100 percent, because a soft budget can be exceeded.
    """
    if any(type(percent) is not int or not 1 <= percent <= MAX_THRESHOLD for percent in thresholds):
        raise ValidationError(f"A threshold must be a whole number of percent from 1 to {MAX_THRESHOLD}.")
    if sorted(set(thresholds)) != thresholds:
        raise ValidationError("Enter the thresholds in ascending order, each of them once.")
    if len(thresholds) > MAX_THRESHOLDS:
        raise ValidationError(f"A budget can have at most {MAX_THRESHOLDS} thresholds.")


@audited
@invalidates_config_cache
class Budget(models.Model):
    """A limit on the cost of a key or project per calendar period, in the project's timezone."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="budgets")
    key = models.ForeignKey(
        ApiKey,
        models.CASCADE,
        null=True,
        blank=True,
        related_name="budgets",
        help_text="Empty: the whole project.",
    )
    period = models.CharField(max_length=8, choices=Period.choices)
    mode = models.CharField("when it is used up", max_length=8, choices=Mode.choices, default=Mode.HARD)
    limit_nano = models.BigIntegerField("limit (nano-USD)", validators=[MinValueValidator(0)])
    changed_at = models.DateTimeField(auto_now=True)

    thresholds = models.JSONField(
        "alert at",
        default=default_thresholds,
        blank=True,
        validators=[validate_thresholds],
        help_text="Percent of the limit.",
    )
    alert_members = models.ManyToManyField(
        Membership, blank=True, related_name="+", verbose_name="people to alert"
    )
    alert_webhooks = models.ManyToManyField(
        Webhook, blank=True, related_name="budgets", verbose_name="webhooks to alert"
    )

    objects = BudgetQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "key", "period", "mode"], name="unique_key_budget"),
            models.UniqueConstraint(
                fields=["project", "period", "mode"], condition=Q(key=None), name="unique_project_budget"
            ),
        ]

    def __str__(self) -> str:
        return f"{format_usd(self.limit_nano)} {self.get_period_display()} for {self.key or self.project}"

    def clean(self) -> None:
        """Raise ValidationError for a limit of 0 in a budget that does not deny requests."""
        if self.limit_nano == 0 and self.mode != Mode.HARD:
            text = "A limit of 0 is only possible for a budget that denies requests."
            raise ValidationError({"limit_nano": text})

    @property
    def owner_label(self) -> str:
        return self.key.label if self.key else "Whole project"


class BudgetWindow(models.Model):
    """The spent and reserved amounts of one budget in one calendar period. Only the ledger writes them."""

    budget = models.ForeignKey(Budget, models.CASCADE, related_name="windows", db_constraint=False)
    name = models.CharField(max_length=10, help_text="2026-11-20, 2026-W47, 2026-11 or total.")
    spent_nano = models.BigIntegerField(default=0)
    reserved_nano = models.BigIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["budget", "name"], name="unique_budget_window")]

    def __str__(self) -> str:
        return f"{self.name}: {format_usd(self.spent_nano)} spent, {format_usd(self.reserved_nano)} reserved"


class Reservation(models.Model):
    """The amount that is reserved for a request in flight. Only the ledger writes and deletes it."""

    id = models.UUIDField(primary_key=True)
    project = models.ForeignKey(Project, models.DO_NOTHING, db_constraint=False)
    key = models.ForeignKey(ApiKey, models.DO_NOTHING, db_constraint=False)
    amount_nano = models.BigIntegerField()
    windows = models.TextField(
        blank=True, help_text="Ids of the budget windows in which the amount counts as reserved."
    )
    estimate = models.TextField(
        help_text="The usage record that is stored if the process dies before it settles the request."
    )

    def __str__(self) -> str:
        return f"{self.id}: {format_usd(self.amount_nano)}"
