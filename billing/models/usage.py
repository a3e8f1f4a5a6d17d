"""The record of every request, and the sums over records.

Tables that the ledger writes have no foreign key constraints in the database: a record is never lost because its key or
project was deleted in the meantime.
"""

import datetime as dt
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from django.db import models, transaction
from django.db.models import Count, Exists, OuterRef, Q, Sum
from django.db.models.functions import Coalesce, TruncMonth

from billing.money import format_usd
from billing.pricing import CostLine, Price, Tokens, break_down
from keys.models import ApiKey
from projects.models import Project

log = structlog.get_logger()


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


@dataclass(frozen=True, slots=True)
class Totals:
    requests: int
    failures: int
    cost_nano: int


REQUEST_COUNT = Count("id", filter=Q(corrects=None))
FAILURE_COUNT = Count("id", filter=Q(corrects=None) & ~Q(outcome__in=(Outcome.OK, Outcome.CACHED)))
ROLLUP_SUMS = {
    "requests": REQUEST_COUNT,
    "failures": FAILURE_COUNT,
    "input_tokens": Sum("input_tokens")
    + Sum("cache_read_tokens")
    + Sum("cache_write_5m_tokens")
    + Sum("cache_write_1h_tokens"),
    "output_tokens": Sum("output_tokens"),
    "cost_nano": Sum("cost_nano"),
}
"""What a roll-up keeps of records."""


class UsageRecordQuerySet(models.QuerySet["UsageRecord"]):
    def for_project(self, project: Project) -> "UsageRecordQuerySet":
        return self.filter(project=project)

    def for_day(self, day: dt.date) -> "UsageRecordQuerySet":
        return self.filter(day=day)

    def totals(self) -> Totals:
        return Totals(
            **self.aggregate(
                requests=REQUEST_COUNT, failures=FAILURE_COUNT, cost_nano=Coalesce(Sum("cost_nano"), 0)
            )
        )

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


class DirtyDayQuerySet(models.QuerySet["StaleDay"]):
    def delete_without_project(self) -> int:
        """Delete the marks of deleted projects, and return how many those were.

        A request that ends after its project was deleted leaves a record and marks its day. No roll-up can take
        such a day: its sums belong to a project.
        """
        deleted, _ = self.exclude(Exists(Project.objects.filter(pk=OuterRef("project_id")))).delete()
        return deleted


class StaleDay(models.Model):
    """A day of a project with records that the roll-up has not seen. `version` changes with each batch of records."""

    project = models.ForeignKey(Project, models.CASCADE, db_constraint=False)
    day = models.DateField()
    version = models.BigIntegerField()

    objects = DirtyDayQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["project", "day"], name="unique_stale_day")]

    def __str__(self) -> str:
        return f"project {self.project_id} {self.day}"


@dataclass(frozen=True, slots=True)
class RollupResult:
    """How many marked days were brought up to date, and which were not, in words: those stay marked."""

    days: int
    failures: list[str]


class DailyUsageQuerySet(models.QuerySet["DailyUsage"]):
    def total_cost(self, project: Project, first: dt.date, last: dt.date) -> int:
        """Nano-USD from `first` to `last`, both included."""
        total: int | None = self.filter(project=project, day__range=(first, last)).aggregate(
            total=Sum("cost_nano")
        )["total"]
        return total or 0

    def month_to_date(self, project: Project, today: dt.date) -> dict[dt.date, int]:
        """Nano-USD by day, from the first of the month. Today is summed over its records: the roll-up may not have seen all of them."""
        earlier = self.filter(project=project, day__gte=today.replace(day=1), day__lt=today)
        by_day = dict(earlier.values_list("day").annotate(Sum("cost_nano")).order_by("day"))
        return {**by_day, today: UsageRecord.objects.for_project(project).for_day(today).totals().cost_nano}

    def by_month(self) -> "models.QuerySet[DailyUsage, dict[str, Any]]":
        """Sums of each month, key, model and provider: from some thirty rows each, so that no second table has to be kept right."""
        columns = ("month", "project", "key", "requested_model", "provider")
        sums: dict[str, Any] = {name: Sum(name) for name in ROLLUP_SUMS}
        months: models.QuerySet[DailyUsage, dict[str, Any]] = (
            self.annotate(month=TruncMonth("day")).values(*columns).annotate(**sums)
        )
        return months.order_by(*columns)

    def totals_by_month(self) -> list[tuple[dt.date, int, int]]:
        """Months with their cost in nano-USD and their requests, over all projects. Summed here: the sum of a project's figures, however
        absurd, must not overflow in a database.
        """
        costs, requests = Counter[dt.date](), Counter[dt.date]()
        for day, cost, count in self.values_list("day", "cost_nano", "requests").iterator():
            costs[day.replace(day=1)] += cost
            requests[day.replace(day=1)] += count
        return [(month, costs[month], requests[month]) for month in sorted(costs)]

    def rebuild(self, first: dt.date) -> RollupResult:
        """Recomputes every day from `first` on that has records or rows."""
        days = (
            UsageRecord.objects.filter(day__gte=first)
            .values_list("project", "day")
            .union(self.filter(day__gte=first).values_list("project", "day"))
        )
        stale_days = [StaleDay(project_id=project, day=day, version=time.time_ns()) for project, day in days]
        StaleDay.objects.bulk_create(
            stale_days, update_conflicts=True, unique_fields=["project", "day"], update_fields=["version"]
        )
        return self.recompute_stale()

    def recompute_stale(self) -> RollupResult:
        """Brings every marked day up to date. One that fails keeps none of the others back."""
        StaleDay.objects.delete_without_project()
        stale_days = list(StaleDay.objects.select_related("project"))
        summed, failures = 0, []
        for day in stale_days:
            try:
                self.recompute(day)
                summed += 1
            except Exception as error:
                if StaleDay.objects.filter(pk=day.pk).delete_without_project():
                    continue  # Its project was deleted while the day was summed.
                log.error(
                    "a day cannot be summed",
                    project_id=day.project_id,
                    day=day.day.isoformat(),
                    exc_info=error,
                )
                failures.append(f"project {day.project_id}, {day.day}: {type(error).__name__}: {error}")
        return RollupResult(summed, failures)

    def recompute(self, stale_day: StaleDay) -> None:
        """Replaces a day's rows by sums over its records.

        The sums are read before the write lock is taken. They are kept only if the mark is still the one that was read
        before them: otherwise a record has come meanwhile, and the next run sums again.
        """
        records = UsageRecord.objects.filter(project=stale_day.project, day=stale_day.day)
        # A request may have ended after its key was deleted.
        records.exclude(key=None).exclude(Exists(ApiKey.objects.filter(pk=OuterRef("key_id")))).update(
            key=None
        )
        rows = [
            DailyUsage(project=stale_day.project, day=stale_day.day, **row)
            for row in records.values("key_id", "requested_model", "provider").annotate(**ROLLUP_SUMS)
        ]
        with transaction.atomic():
            unchanged, _ = StaleDay.objects.filter(pk=stale_day.pk, version=stale_day.version).delete()
            if unchanged:
                self.filter(project=stale_day.project, day=stale_day.day).delete()
                self.bulk_create(rows)


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

    objects = DailyUsageQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["project", "day"], name="daily_usage_by_project_day")]

    def __str__(self) -> str:
        return f"{self.project} {self.day} {self.requested_model}"
