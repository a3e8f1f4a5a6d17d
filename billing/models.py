"""Budgets, what is spent against them, and the record of every request.

Tables that the ledger writes have no foreign key constraints in the database: a record is never lost because its key or
project was deleted in the meantime.
"""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass

from django.core.validators import MinValueValidator
from django.db import models, transaction
from django.db.models import Count, F, FloatField, Q, Sum
from django.db.models.functions import Cast, Coalesce, NullIf

from billing.money import format_usd
from keys.models import ApiKey
from projects.ids import uuid7
from projects.models import Project, cached_by_gateways


class Period(models.TextChoices):
    DAY = "day", "daily"
    MONTH = "month", "monthly"


class BudgetQuerySet(models.QuerySet["Budget"]):
    def for_project(self, project: Project) -> "BudgetQuerySet":
        """Those of the whole project first."""
        return self.filter(project=project).select_related("key").order_by(F("key__label").asc(nulls_first=True), "key", "period")

    def with_spending(self, windows: Iterable[str]) -> "BudgetQuerySet":
        """Adds `spent_nano` and `reserved_nano`, summed over the windows of these names."""
        current = Q(windows__name__in=list(windows))
        return self.annotate(
            spent_nano=Coalesce(Sum("windows__spent_nano", filter=current), 0),
            reserved_nano=Coalesce(Sum("windows__reserved_nano", filter=current), 0),
        )

    def fullest(self, count: int) -> "BudgetQuerySet":
        """Of budgets with their spending, those of which the largest share is gone. A limit of nothing is always full."""
        share = Cast(F("spent_nano") + F("reserved_nano"), FloatField()) / NullIf(F("limit_nano"), 0)
        return self.order_by(share.desc(nulls_first=True), "pk")[:count]


@cached_by_gateways
class Budget(models.Model):
    """A limit on what a key, or a whole project, may spend in a calendar period of the project's timezone."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="budgets")
    key = models.ForeignKey(ApiKey, models.CASCADE, null=True, blank=True, related_name="budgets", help_text="Empty: the whole project.")
    period = models.CharField(max_length=8, choices=Period.choices)
    limit_nano = models.BigIntegerField("limit (nano-USD)", validators=[MinValueValidator(0)])

    objects = BudgetQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "key", "period"], name="one_budget_per_key_and_period"),
            models.UniqueConstraint(fields=["project", "period"], condition=Q(key=None), name="one_budget_per_project_and_period"),
        ]

    def __str__(self) -> str:
        return f"{format_usd(self.limit_nano)} {self.get_period_display()} for {self.key or self.project}"


class BudgetWindow(models.Model):
    """One calendar period of one budget. Written by the ledger alone."""

    budget = models.ForeignKey(Budget, models.CASCADE, related_name="windows", db_constraint=False)
    name = models.CharField(max_length=10, help_text="2026-11-20 or 2026-11")
    spent_nano = models.BigIntegerField(default=0)
    reserved_nano = models.BigIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["budget", "name"], name="one_window_per_budget_and_period")]

    def __str__(self) -> str:
        return f"{self.name}: {format_usd(self.spent_nano)} spent, {format_usd(self.reserved_nano)} reserved"


class RequestWindow(models.Model):
    """Requests of a key in its current minute. Written by the ledger alone."""

    key = models.OneToOneField(ApiKey, models.CASCADE, primary_key=True, db_constraint=False)
    minute = models.BigIntegerField(help_text="Minutes since the epoch.")
    requests = models.PositiveIntegerField()

    def __str__(self) -> str:
        return f"{self.requests} requests"


class GatewayProcess(models.Model):
    """A process that holds reservations. One that is silent for long has died, and others resolve what it left."""

    id = models.UUIDField(primary_key=True, default=uuid7)
    seen_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "gateway processes"

    def __str__(self) -> str:
        return str(self.id)


class Reservation(models.Model):
    """Money held for a request in flight. Written by the ledger alone; gone when the request is settled."""

    id = models.UUIDField(primary_key=True)
    project = models.ForeignKey(Project, models.DO_NOTHING, db_constraint=False)
    key = models.ForeignKey(ApiKey, models.DO_NOTHING, db_constraint=False)
    process_id = models.UUIDField(db_index=True)
    amount_nano = models.BigIntegerField()
    windows = models.CharField(max_length=200, blank=True, help_text="Ids of the budget windows that it counts in.")
    draft = models.TextField(help_text="The usage record as an estimate, should the process die.")

    def __str__(self) -> str:
        return f"{self.id}: {format_usd(self.amount_nano)}"


class Outcome(models.TextChoices):
    OK = "ok"
    AUTH = "auth"
    SCOPE = "scope"
    BUDGET = "budget"
    RATE = "rate"
    INVALID = "invalid"
    UPSTREAM_ERROR = "upstream_error"
    CLIENT_CLOSED = "client_closed"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Totals:
    requests: int
    failures: int
    cost_nano: int


class UsageRecordQuerySet(models.QuerySet["UsageRecord"]):
    def for_project(self, project: Project) -> "UsageRecordQuerySet":
        return self.filter(project=project)

    def on(self, day: dt.date) -> "UsageRecordQuerySet":
        return self.filter(day=day)

    def totals(self) -> Totals:
        failures = Count("id", filter=~Q(outcome=Outcome.OK))
        return Totals(**self.aggregate(requests=Count("id"), failures=failures, cost_nano=Coalesce(Sum("cost_nano"), 0)))

    def newest(self, count: int) -> "UsageRecordQuerySet":
        return self.select_related("key").order_by("-id")[:count]


class UsageRecord(models.Model):
    """One request that carried a valid key. Append-only; the columns are written by the ledger (`ledger/entry.py`)."""

    id = models.UUIDField(primary_key=True)
    project = models.ForeignKey(Project, models.CASCADE, related_name="records", db_constraint=False)
    key = models.ForeignKey(ApiKey, models.SET_NULL, null=True, related_name="records", db_constraint=False)
    day = models.DateField(help_text="In the project's timezone.")
    created_at = models.DateTimeField()
    request_id = models.CharField(max_length=128)
    operation = models.CharField(max_length=40)
    format = models.CharField(max_length=20)
    model_asked = models.CharField(max_length=200)
    model_served = models.CharField(max_length=200)
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
    price = models.JSONField(null=True, help_text="Rates in nano-USD per million tokens, and where they come from.")
    estimated = models.BooleanField(help_text="The provider did not say what was used; these figures are our own.")
    latency_us = models.BigIntegerField()
    first_token_us = models.BigIntegerField(null=True)

    objects = UsageRecordQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["project", "id"], name="records_newest_of_project"),
            models.Index(fields=["project", "day"], name="records_of_a_day"),
        ]

    def __str__(self) -> str:
        return f"{self.request_id}: {self.model_asked} {self.outcome} {format_usd(self.cost_nano)}"

    @property
    def prompt_tokens(self) -> int:
        return self.input_tokens + self.cache_read_tokens + self.cache_write_5m_tokens + self.cache_write_1h_tokens


class DirtyDay(models.Model):
    """A day of a project with records that the roll-up has not seen. `mark` changes with each batch of records."""

    project = models.ForeignKey(Project, models.CASCADE, db_constraint=False)
    day = models.DateField()
    mark = models.BigIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["project", "day"], name="one_mark_per_day")]

    def __str__(self) -> str:
        return f"{self.project} {self.day}"


class DailyUsageQuerySet(models.QuerySet["DailyUsage"]):
    def spent(self, project: Project, first: dt.date, last: dt.date) -> int:
        """Nano-USD from `first` to `last`, both included."""
        total: int | None = self.filter(project=project, day__range=(first, last)).aggregate(total=Sum("cost_nano"))["total"]
        return total or 0

    def month_to_date(self, project: Project, today: dt.date) -> dict[dt.date, int]:
        """Nano-USD by day, from the first of the month. Today is summed over its records: the roll-up may not have seen all of them."""
        earlier = self.filter(project=project, day__gte=today.replace(day=1), day__lt=today)
        by_day = dict(earlier.values_list("day").annotate(Sum("cost_nano")).order_by("day"))
        return {**by_day, today: UsageRecord.objects.for_project(project).on(today).totals().cost_nano}

    def recompute_dirty(self) -> int:
        """Brings every marked day up to date; returns how many there were."""
        dirty = list(DirtyDay.objects.select_related("project"))
        for day in dirty:
            self.recompute(day)
        return len(dirty)

    def recompute(self, dirty: DirtyDay) -> None:
        """Replaces a day's rows by sums over its records.

        The sums are read before the write lock is taken. They are kept only if the mark is still the one that was read
        before them: otherwise a record has come meanwhile, and the next run sums again.
        """
        records = UsageRecord.objects.filter(project=dirty.project, day=dirty.day)
        rows = [
            DailyUsage(project=dirty.project, day=dirty.day, **row)
            for row in records.values("key_id", "model_asked", "provider").annotate(
                requests=Count("id"),
                failures=Count("id", filter=~Q(outcome=Outcome.OK)),
                cost_nano=Sum("cost_nano"),
                input_tokens=Sum("input_tokens") + Sum("cache_read_tokens") + Sum("cache_write_5m_tokens") + Sum("cache_write_1h_tokens"),
                output_tokens=Sum("output_tokens"),
            )
        ]
        with transaction.atomic():
            unchanged, _ = DirtyDay.objects.filter(pk=dirty.pk, mark=dirty.mark).delete()
            if unchanged:
                self.filter(project=dirty.project, day=dirty.day).delete()
                self.bulk_create(rows)


class DailyUsage(models.Model):
    """Sums over the records of one day, never incremented."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="daily_usage")
    day = models.DateField()
    key = models.ForeignKey(ApiKey, models.SET_NULL, null=True)
    model_asked = models.CharField(max_length=200)
    provider = models.CharField(max_length=60)
    requests = models.PositiveIntegerField()
    failures = models.PositiveIntegerField()
    input_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    cost_nano = models.BigIntegerField()

    objects = DailyUsageQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["project", "day"], name="usage_of_a_day")]

    def __str__(self) -> str:
        return f"{self.project} {self.day} {self.model_asked}"
