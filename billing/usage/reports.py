"""Sums of usage over days, for the dashboard, the usage API and the roll-up.

A report is always up to date: it reads the daily sums, or the records of days whose sums are stale.
"""

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

from django.db.models import Case, Count, F, Max, Q, QuerySet, Sum, When
from django.db.models.expressions import Combinable
from django.db.models.functions import Coalesce, Greatest, TruncHour

from billing.models import ArchivedUsage, DailyUsage, Outcome, StaleDay, UsageRecord
from billing.usage.tags import TagValue, with_tags
from projects.models import Project

ROLLUP_SUMS = {
    "requests": Count("id", filter=Q(corrects=None)),
    "failures": Count("id", filter=Q(corrects=None) & ~Q(outcome__in=(Outcome.OK, Outcome.CACHED))),
    "input_tokens": Sum("input_tokens")
    + Sum("cache_read_tokens")
    + Sum("cache_write_5m_tokens")
    + Sum("cache_write_1h_tokens")
    + Sum("cache_write_12h_tokens"),
    "output_tokens": Sum("output_tokens"),
    "cost_nano": Sum("cost_nano"),
    "saved_nano": Sum("saved_nano"),
}
"""Aggregates over usage records, by column of `DailyUsage`. Corrections do not count as requests."""
OVERRUN = Case(
    When(unchecked=True, then=0), default=Greatest(F("cost_nano") - Coalesce("reserved_nano", 0), 0)
)
"""The amount by which a checked request cost more than its reservation, in nano-USD."""
ARCHIVED_SUMS = {
    "overrun_nano": Sum(OVERRUN),
    "unchecked_nano": Sum(Case(When(unchecked=True, then="cost_nano"), default=0)),
    **ROLLUP_SUMS,
}
"""Aggregates over usage records, by column of `ArchivedUsage`."""
DAILY_SUMS = {name: Sum(name) for name in ROLLUP_SUMS}


Dimension = str | Combinable
"""What a table is grouped by: a column of `UsageRecord` and `DailyUsage`, or an expression over records."""


class Hour(TruncHour):
    """The hour of a record, in UTC."""

    def __init__(self) -> None:
        super().__init__("created_at", tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class UsageTotals:
    """Sums over requests. Money is nano-USD.

    Reports omit requests without a model, such as those for the list of models, because they use no tokens.
    """

    requests: int = 0
    failures: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_nano: int = 0
    saved_nano: int = 0

    def __add__(self, other: "UsageTotals") -> "UsageTotals":
        return UsageTotals(
            self.requests + other.requests,
            self.failures + other.failures,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cost_nano + other.cost_nano,
            self.saved_nano + other.saved_nano,
        )


@dataclass(frozen=True, slots=True)
class UsageReport:
    """The usage of a project from the day `first` to the day `last` (inclusive), in its timezone.

    `filters` are Django look-ups on columns that both `UsageRecord` and `DailyUsage` have. `tags` are names
    and values that requests must have. Only records have tags, so a report about tags does not include
    records that were deleted because of their age.
    """

    project: Project
    first: dt.date
    last: dt.date
    filters: Mapping[str, Any] = field(default_factory=dict)
    tags: Sequence[tuple[str, str]] = ()

    @classmethod
    def all_time(cls, project: Project) -> Self:
        return cls(project, dt.date.min, dt.date.max)

    @classmethod
    def for_day(cls, project: Project, day: dt.date) -> Self:
        return cls(project, day, day)

    @classmethod
    def month_to_date(cls, project: Project, today: dt.date) -> Self:
        return cls(project, today.replace(day=1), today)

    def between(self, first: dt.date, last: dt.date) -> Self:
        """Return the same report for other days."""
        return replace(self, first=first, last=last)

    def total(self) -> UsageTotals:
        return sum(self.by("project").values(), UsageTotals())

    def cost_by_day(self) -> dict[dt.date, int]:
        """Return the cost in nano-USD of each day that has usage."""
        return {day: totals.cost_nano for day, totals in self.by("day").items()}

    def by(self, dimension: str) -> dict[Any, UsageTotals]:
        """Return the totals for each value of the column `dimension`, the most expensive value first."""
        return self.by_each([dimension])[dimension]

    def by_each(self, dimensions: Sequence[str]) -> dict[str, dict[Any, UsageTotals]]:
        """Return the totals for each value of several columns.

        The records are read only once for all columns.
        """
        if self.tags:
            return {dimension: self._by_records(F(dimension)) for dimension in dimensions}
        days = self.days_read_from_records()
        from_records = list(self._sum_records(days, dimensions))
        daily_usage = self._filter_rows(DailyUsage.objects.all()).exclude(day__in=days)
        return {
            dimension: add_up(
                [
                    *((value, totals) for (value,), totals in group_sums(daily_usage, dimension)),
                    *((values[position], totals) for values, totals in from_records),
                ]
            )
            for position, dimension in enumerate(dimensions)
        }

    def _sum_records(
        self, days: Iterable[dt.date], dimensions: Sequence[str]
    ) -> Iterable[tuple[Any, UsageTotals]]:
        """Yield the totals of the records of some days, for each combination of the columns' values."""
        # The condition contains only the days. If it also contained the period, SQLite would read all records
        # of the period.
        read = [day for day in days if self.first <= day <= self.last]
        records, archived = (
            self._filter_all_days(rows).filter(day__in=read)
            for rows in (UsageRecord.objects.all(), ArchivedUsage.objects.all())
        )
        return group_records(records, archived, *dimensions)

    def table(self, dimensions: Sequence[Dimension]) -> dict[tuple[Any, ...], UsageTotals]:
        """Return the totals for each combination of values, in no particular order.

        If a dimension is an expression, records that were deleted because of their age are not included.
        """
        columns = [each for each in dimensions if isinstance(each, str)]
        if not dimensions:
            return {(): self.total()}
        if self.tags or len(columns) < len(dimensions):
            return self._table_of_records(dimensions)
        table: defaultdict[tuple[Any, ...], UsageTotals] = defaultdict(UsageTotals)
        for values, totals in self._sums(*columns):
            table[values] += totals
        return dict(table)

    def _table_of_records(self, dimensions: Sequence[Dimension]) -> dict[tuple[Any, ...], UsageTotals]:
        named = {
            f"group_{number}": F(each) if isinstance(each, str) else each
            for number, each in enumerate(dimensions)
        }
        records = with_tags(self._filter_rows(UsageRecord.objects.all()), self.tags)
        groups = records.annotate(**named).values_list(*named).annotate(**ROLLUP_SUMS)
        count = len(named)
        return {row[:count]: UsageTotals(*row[count:]) for row in groups}

    def by_tag(self, name: str) -> dict[str | None, UsageTotals]:
        """Return the totals for each value of a tag. The value None stands for requests without the tag."""
        return self._by_records(TagValue(name))

    def tags_known_from(self) -> dt.date | None:
        """Return the first day whose records are all kept; None if no record of the period was deleted.

        Sums of deleted records have no tags, so a report about tags is complete only from this day.
        """
        archived = ArchivedUsage.objects.filter(project=self.project, day__range=(self.first, self.last))
        last: dt.date | None = archived.aggregate(last=Max("day"))["last"]
        return None if last is None else last + dt.timedelta(days=1)

    def _by_records(self, dimension: Combinable) -> dict[Any, UsageTotals]:
        """Return the totals for each value of an expression, from the records of all days."""
        records = with_tags(self._filter_rows(UsageRecord.objects.all()), self.tags)
        groups = records.annotate(group=dimension).values_list("group").annotate(**ROLLUP_SUMS)
        return add_up((value, UsageTotals(*totals)) for value, *totals in groups)

    def _sums(self, *columns: str) -> Iterable[tuple[Any, UsageTotals]]:
        """Yield totals for values of columns, from daily sums and from the records of days without them."""
        days = self.days_read_from_records()
        yield from group_sums(self._filter_rows(DailyUsage.objects.all()).exclude(day__in=days), *columns)
        yield from self._sum_records(days, columns)

    def days_read_from_records(self) -> set[dt.date]:
        """Return today and the stale days, whose daily sums may lack records."""
        stale_days = StaleDay.objects.filter(project=self.project, day__range=(self.first, self.last))
        return {self.project.today(), *stale_days.values_list("day", flat=True)}

    def _filter_rows(self, rows: "QuerySet[Any]") -> "QuerySet[Any]":
        return self._filter_all_days(rows).filter(day__range=(self.first, self.last))

    def _filter_all_days(self, rows: "QuerySet[Any]") -> "QuerySet[Any]":
        return rows.filter(project=self.project, **self.filters).exclude(requested_model="").order_by()


def add_up(parts: Iterable[tuple[Any, UsageTotals]]) -> dict[Any, UsageTotals]:
    """Add up the totals of each value. The most expensive value is the first one."""
    by_value: defaultdict[Any, UsageTotals] = defaultdict(UsageTotals)
    for value, totals in parts:
        by_value[value] += totals
    return dict(sorted(by_value.items(), key=lambda item: -item[1].cost_nano))


def group_sums(rows: "QuerySet[Any]", *dimensions: str) -> Iterable[tuple[Any, UsageTotals]]:
    """Yield the totals of stored sums for values of columns."""
    for row in rows.values_list(*dimensions).annotate(**DAILY_SUMS):
        values, totals = row[: len(dimensions)], row[len(dimensions) :]
        yield values, UsageTotals(*totals)


def group_records(
    records: "QuerySet[Any]", archived: "QuerySet[Any]", *dimensions: str
) -> Iterable[tuple[Any, UsageTotals]]:
    """Yield totals of records and of archived usage for values of columns. A value can occur twice.

    One statement reads both tables, because a concurrent deletion moves amounts from one to the other.
    """
    sums = records.order_by().values_list(*dimensions).annotate(**ROLLUP_SUMS)
    archived_sums = archived.order_by().values_list(*dimensions).annotate(**DAILY_SUMS)
    for row in sums.union(archived_sums, all=True):
        values, totals = row[: len(dimensions)], row[len(dimensions) :]
        yield values, UsageTotals(*map(int, totals))


def totals_by_month() -> dict[dt.date, UsageTotals]:
    """Return the totals of each month over all projects, from the daily sums.

    They are added in Python because its integers do not overflow. In SQL, one project with absurd amounts
    would make the query fail for all.
    """
    by_month: defaultdict[dt.date, UsageTotals] = defaultdict(UsageTotals)
    names = [each.name for each in fields(UsageTotals)]
    for day, *totals in DailyUsage.objects.values_list("day", *names).iterator():
        by_month[day.replace(day=1)] += UsageTotals(*totals)
    return dict(sorted(by_month.items()))
