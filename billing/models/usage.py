"""The record of every request, and the sums over records.

Tables that the ledger writes have no foreign key constraints in the database: a record is never lost because its key or
project was deleted in the meantime.
"""

import datetime as dt
import time
from collections.abc import Iterable

import msgspec
from django.db import connections, models, transaction
from django.db.models import Exists, OuterRef, Q

from billing.money import format_usd
from billing.pricing import CostLine, Price, Tokens, break_down
from keys.models import ApiKey
from projects.models import Project


class Outcome(models.TextChoices):
    OK = "ok"
    CACHED = "cached"
    UNAUTHENTICATED = "auth"
    FORBIDDEN = "scope"
    BUDGET_EXCEEDED = "budget"
    RATE_LIMITED = "rate"
    INVALID_REQUEST = "invalid"
    UPSTREAM_ERROR = "upstream_error"
    CLIENT_CLOSED = "client_closed"
    UNAVAILABLE = "unavailable"


class CorrectionReason(models.TextChoices):
    """Why a record corrects another."""

    LATE = "late", "settled after it had been given up for an estimate"
    REPRICED = "repriced"


class UsageRecordQuerySet(models.QuerySet["UsageRecord"]):
    def for_project(self, project: Project) -> "UsageRecordQuerySet":
        return self.filter(project=project)

    def requests(self) -> "UsageRecordQuerySet":
        """Without the corrections of others."""
        return self.filter(corrects=None)

    def corrections_of(self, record: "UsageRecord") -> "UsageRecordQuerySet":
        return self.filter(project=record.project_id, corrects=record.pk).order_by("-correction_reason", "pk")

    def newest(self, count: int) -> "UsageRecordQuerySet":
        return self.select_related("key").order_by("-id")[:count]


class UsageRecord(models.Model):
    """One request that carried a valid key. Append-only; the columns are written by the ledger (`ledger/usage_entry.py`).

    A correction is a record of its own: it names the record that it `corrects`, and its figures are what is to be added to
    that one's, so that every sum over records is right as it stands. It is no request of its own.
    """

    id = models.UUIDField(primary_key=True)
    project = models.ForeignKey(Project, models.CASCADE, related_name="records", db_constraint=False)
    key = models.ForeignKey(ApiKey, models.SET_NULL, null=True, related_name="records", db_constraint=False)
    day = models.DateField(help_text="In the project's timezone.")
    created_at = models.DateTimeField()
    request_id = models.CharField(max_length=128)
    operation = models.CharField(max_length=40)
    format = models.CharField(max_length=20)
    requested_model = models.CharField(max_length=200)
    provider_model = models.CharField(max_length=200)
    provider = models.CharField(max_length=60)
    streamed = models.BooleanField()
    outcome = models.CharField(max_length=16, choices=Outcome.choices)
    status_code = models.PositiveSmallIntegerField()
    error = models.CharField(max_length=200)
    input_tokens = models.BigIntegerField()
    cache_read_tokens = models.BigIntegerField()
    cache_write_5m_tokens = models.BigIntegerField()
    cache_write_1h_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    reasoning_tokens = models.BigIntegerField()
    cost_nano = models.BigIntegerField()
    price = models.JSONField(
        null=True, help_text="Rates in nano-USD per million tokens, and where they come from."
    )
    estimated = models.BooleanField(
        help_text="The provider did not say what was used; these figures are our own."
    )
    latency_us = models.BigIntegerField()
    first_token_us = models.BigIntegerField(null=True)
    reserved_nano = models.BigIntegerField(
        null=True, help_text="What was reserved for it; empty where it was not admitted."
    )
    service_tier = models.CharField(
        max_length=20, blank=True, default="", help_text="As the provider stated it."
    )
    billable_extras = models.JSONField(
        null=True, help_text="Calls of the provider's own tools that it bills, by kind."
    )
    blocking_budget_id = models.BigIntegerField(
        null=True,
        help_text="The budget that refused it; of a request that was admitted, a shadow budget that would have.",
    )
    unchecked = models.BooleanField(
        default=False,
        db_default=False,
        help_text="It was admitted while Redis was away, so that no budget was checked.",
    )
    corrects = models.UUIDField(null=True)
    correction_reason = models.CharField(
        max_length=16, choices=CorrectionReason.choices, blank=True, default=""
    )

    objects = UsageRecordQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["project", "id"], name="usage_by_project_id"),
            models.Index(fields=["project", "day"], name="usage_by_project_day"),
            models.Index(
                fields=["project", "id"],
                condition=Q(outcome=Outcome.BUDGET_EXCEEDED),
                name="usage_budget_denials",
            ),
            models.Index(fields=["corrects"], condition=~Q(corrects=None), name="usage_corrections"),
        ]

    def __str__(self) -> str:
        return f"{self.request_id}: {self.requested_model} {self.outcome} {format_usd(self.cost_nano)}"

    @property
    def prompt_tokens(self) -> int:
        return (
            self.input_tokens
            + self.cache_read_tokens
            + self.cache_write_5m_tokens
            + self.cache_write_1h_tokens
        )

    @property
    def tokens(self) -> Tokens:
        return Tokens(
            self.input_tokens,
            self.cache_read_tokens,
            self.cache_write_5m_tokens,
            self.cache_write_1h_tokens,
            self.output_tokens,
            self.reasoning_tokens,
        )

    @property
    def applied_price(self) -> Price | None:
        """The price that it was charged at."""
        return None if self.price is None else msgspec.convert(self.price, Price)

    @property
    def cost_lines(self) -> tuple[CostLine, ...]:
        """Its cost explained: what it was charged for, to the last digit."""
        return break_down(self.applied_price, self.tokens, self.billable_extras, self.cost_nano)


class StaleDayQuerySet(models.QuerySet["StaleDay"]):
    def mark(self, days: Iterable[tuple[int, dt.date]]) -> None:
        """Mark days of projects, given by their ids, as stale. A day that is stale already gets a new version."""
        rows = [StaleDay.mark_parameters(project_id, day) for project_id, day in sorted(days)]
        with transaction.atomic(using=self.db), connections[self.db].cursor() as cursor:
            cursor.executemany(StaleDay.MARK_SQL, rows)

    def delete_without_project(self) -> int:
        """Delete the marks of deleted projects, and return how many those were.

        A request that ends after its project was deleted leaves a record and marks its day. No roll-up can take
        such a day: its sums belong to a project.
        """
        deleted, _ = self.exclude(Exists(Project.objects.filter(pk=OuterRef("project_id")))).delete()
        return deleted


class StaleDay(models.Model):
    """A day of a project whose sums lack records. `version` changes with each batch of records.

    Only `MARK_SQL` writes these rows. The ledger runs it on a connection of its own, beside the ORM.
    """

    MARK_SQL = (
        "INSERT INTO billing_staleday (project_id, day, version) VALUES (%s, %s, %s) "
        "ON CONFLICT (project_id, day) DO UPDATE SET version = excluded.version"
    )

    project = models.ForeignKey(Project, models.CASCADE, db_constraint=False)
    day = models.DateField()
    version = models.BigIntegerField()

    objects = StaleDayQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["project", "day"], name="unique_stale_day")]

    def __str__(self) -> str:
        return f"project {self.project_id} {self.day}"

    @staticmethod
    def mark_parameters(project_id: int, day: dt.date) -> tuple[int, str, int]:
        """Return the parameters of `MARK_SQL`, in forms that SQLite and PostgreSQL both accept."""
        return project_id, day.isoformat(), time.time_ns()


class DailyUsage(models.Model):
    """Sums over the records of one day, never incremented."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="daily_usage")
    day = models.DateField()
    key = models.ForeignKey(ApiKey, models.SET_NULL, null=True)
    requested_model = models.CharField(max_length=200)
    provider = models.CharField(max_length=60)
    requests = models.PositiveIntegerField()
    failures = models.PositiveIntegerField()
    input_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    cost_nano = models.BigIntegerField()

    class Meta:
        indexes = [models.Index(fields=["project", "day"], name="daily_usage_by_project_day")]

    def __str__(self) -> str:
        return f"{self.project} {self.day} {self.requested_model}"
