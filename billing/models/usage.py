"""Usage records, one for each request, and their daily sums.

Tables that the ledger writes have no foreign key constraints in the database. With them, the ledger could not
write a record whose key or project was deleted while the request was in flight.
"""

import datetime as dt
import time
from collections.abc import Iterable

import msgspec
from django.db import connections, models, transaction
from django.db.models import Exists, OuterRef, Q

from billing.money import format_usd
from billing.pricing import CostLine, Price, Tokens, break_down
from billing.pricing.price import PER_MILLION
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
    SHED = "shed"


class CorrectionReason(models.TextChoices):
    """The reason why a record corrects another record."""

    LATE = "late", "settled after an estimate was recorded"
    REPRICED = "repriced"


class UsageRecordQuerySet(models.QuerySet["UsageRecord"]):
    def for_project(self, project: Project) -> "UsageRecordQuerySet":
        return self.filter(project=project)

    def requests(self) -> "UsageRecordQuerySet":
        """Select one record for each request, by excluding corrections."""
        return self.filter(corrects=None)

    def corrections_of(self, record: "UsageRecord") -> "UsageRecordQuerySet":
        """Select the corrections of a record, which belong to its project.

        The query does not name the project, because SQLite would then read all records of the project.
        """
        return self.filter(corrects=record.pk).order_by("-correction_reason", "pk")

    def forget_deleted_keys(self) -> None:
        """Remove the names of keys that do not exist.

        A request may end after its key was deleted. Its record then names a key that does not exist.
        """
        deleted = ~Exists(ApiKey.objects.filter(pk=OuterRef("key_id")))
        self.exclude(key=None).filter(deleted).update(key=None)

    def newest(self, count: int) -> "UsageRecordQuerySet":
        return self.select_related("key").order_by("-id")[:count]


class UsageRecord(models.Model):
    """The record of one request with a valid key, or a correction of such a record.

    Only the ledger inserts records (`ledger/usage_entry.py`). Their amounts never change.

    In a correction, `corrects` is the id of the corrected record, and all amounts are differences, which may
    be negative. Sums over records therefore need no special cases. Only a count of requests must exclude
    corrections.
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
    cache_write_12h_tokens = models.BigIntegerField(default=0, db_default=0)
    output_tokens = models.BigIntegerField()
    reasoning_tokens = models.BigIntegerField()
    cost_nano = models.BigIntegerField()
    price = models.JSONField(null=True, help_text="Rates in nano-USD per million tokens, with their source.")
    estimated = models.BooleanField(
        help_text="The gateway estimated the usage, or does not know the price of the service tier."
    )
    latency_us = models.BigIntegerField()
    first_token_us = models.BigIntegerField(null=True)
    reserved_nano = models.BigIntegerField(
        null=True, help_text="The amount reserved for the request. Empty: the request was not admitted."
    )
    service_tier = models.CharField(
        max_length=20,
        blank=True,
        default="",
        help_text="As reported by the provider, or as requested if it reported none.",
    )
    billable_extras = models.JSONField(
        null=True,
        help_text=(
            "Counts that the provider bills beside text tokens, such as calls of its own tools, by kind."
        ),
    )
    blocking_budget_id = models.BigIntegerField(
        null=True,
        help_text=("The budget that denied the request, or a shadow budget that would have denied it."),
    )
    attempts = models.JSONField(
        null=True,
        help_text=(
            "The calls of the request, in order: target, status, error code, milliseconds and cost in "
            "nano-USD. Empty: the first call succeeded, or none was made."
        ),
    )
    unchecked = models.BooleanField(
        default=False,
        db_default=False,
        help_text="The request was admitted while Redis was down, so no budget was checked.",
    )
    metadata = models.JSONField(null=True, help_text="The tags of the client, as names and texts.")
    saved_nano = models.BigIntegerField(
        default=0,
        db_default=0,
        help_text="The cost of the first request whose response this one got from the cache.",
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
            # SQLite uses a partial index only if the condition is written as IS NOT NULL.
            models.Index(fields=["corrects"], condition=Q(corrects__isnull=False), name="usage_corrections"),
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
            + self.cache_write_12h_tokens
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
            self.cache_write_12h_tokens,
        )

    @property
    def applied_price(self) -> Price | None:
        """The price with which the request was charged; None if no price was known."""
        return None if self.price is None else msgspec.convert(self.price, Price)

    @property
    def cost_lines(self) -> tuple[CostLine, ...]:
        """The lines of the cost breakdown, whose sum is exactly the cost.

        If several calls of the request were billed, each call is a line, because their prices may differ.
        """
        billed = [attempt["cost_nano"] for attempt in self.attempts or () if attempt["cost_nano"]]
        if len(billed) > 1:
            return tuple(CostLine("attempt", nano * PER_MILLION) for nano in billed)
        return break_down(self.applied_price, self.tokens, self.billable_extras, self.cost_nano)


class StaleDayQuerySet(models.QuerySet["StaleDay"]):
    def mark(self, days: Iterable[tuple[int, dt.date]]) -> None:
        """Mark days, given as (project id, day), as stale. A day that is already stale gets a new version."""
        rows = [StaleDay.mark_parameters(project_id, day) for project_id, day in sorted(days)]
        with transaction.atomic(using=self.db), connections[self.db].cursor() as cursor:
            cursor.executemany(StaleDay.MARK_SQL, rows)

    def delete_without_project(self) -> int:
        """Delete the stale days of deleted projects, and return the number of deleted rows.

        A request that ends after its project was deleted still stores a record and marks its day as stale.
        The roll-up cannot store sums of such a day, because its project does not exist.
        """
        deleted, _ = self.exclude(Exists(Project.objects.filter(pk=OuterRef("project_id")))).delete()
        return deleted


class StaleDay(models.Model):
    """A day whose daily sums must be computed again. `version` changes with each batch of new records.

    Rows are written only with `MARK_SQL`, because the ledger does not use the ORM.
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


class UsageSums(models.Model):
    """Sums over records of one day, by key, model and provider."""

    day = models.DateField()
    key = models.ForeignKey(ApiKey, models.SET_NULL, null=True)
    requested_model = models.CharField(max_length=200)
    provider = models.CharField(max_length=60)
    requests = models.PositiveIntegerField()
    failures = models.PositiveIntegerField()
    input_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    cost_nano = models.BigIntegerField()
    saved_nano = models.BigIntegerField(default=0, db_default=0)

    class Meta:
        abstract = True


class DailyUsage(UsageSums):
    """Sums over all records of one day, including archived ones.

    The roll-up always recomputes all rows of a day, and never increments them.
    """

    project = models.ForeignKey(Project, models.CASCADE, related_name="daily_usage")

    class Meta:
        indexes = [models.Index(fields=["project", "day"], name="daily_usage_by_project_day")]

    def __str__(self) -> str:
        return f"{self.project} {self.day} {self.requested_model}"


class ArchivedUsage(UsageSums):
    """Sums over records that were deleted because of their age (`usage/retention.py`).

    Rows are only added. A day may have several rows with the same key, model and provider. `overrun_nano` is
    the amount by which requests cost more than their reservations. `unchecked_nano` is the cost of requests
    that were admitted while Redis was down. The audit needs both.
    """

    project = models.ForeignKey(Project, models.CASCADE, related_name="archived_usage")
    overrun_nano = models.BigIntegerField()
    unchecked_nano = models.BigIntegerField()

    class Meta:
        verbose_name_plural = "archived usage"
        indexes = [models.Index(fields=["project", "day"], name="archived_by_project_day")]

    def __str__(self) -> str:
        return f"{self.project} {self.day} {self.requested_model}: {self.requests} deleted"
