"""Usage between two days, exact at any moment: from the roll-up, and from the records of days that it has not seen all of."""

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from typing import Any

from django.db.models import Q, QuerySet, Sum

from billing.models import DailyUsage, StaleDay, UsageRecord
from billing.models.usage import ROLLUP_SUMS
from projects.models import Project

Filters = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class UsageTotals:
    """Money is nano-USD. Only requests that asked for a model count: lists of models and reports like this one are not usage."""

    requests: int = 0
    failures: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_nano: int = 0

    def __add__(self, other: "UsageTotals") -> "UsageTotals":
        return UsageTotals(
            *(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True))
        )


@dataclass(frozen=True, slots=True)
class UsageReport:
    """A project's usage from `first` to `last`, both included, in its own timezone. `filters` are on columns that records and
    the roll-up share.
    """

    project: Project
    first: dt.date
    last: dt.date
    filters: Filters

    @classmethod
    def all_time(cls, project: Project) -> "UsageReport":
        return cls(project, dt.date.min, dt.date.max, {})

    def total(self) -> UsageTotals:
        return sum(self.by("project").values(), UsageTotals())

    def by(self, dimension: str) -> dict[Any, UsageTotals]:
        """Figures for each value of a column, those that cost most first."""
        days_from_records = self.days_read_from_records()
        rollup_rows = self._filter_rows(DailyUsage.objects.all()).exclude(day__in=days_from_records)
        records = self._filter_rows(UsageRecord.objects.all()).filter(day__in=days_from_records)
        by_value: dict[Any, UsageTotals] = {}
        for value, totals in [
            *group_totals(rollup_rows, dimension, {name: Sum(name) for name in ROLLUP_SUMS}),
            *group_totals(records, dimension, ROLLUP_SUMS),
        ]:
            by_value[value] = by_value.get(value, UsageTotals()) + totals
        return dict(sorted(by_value.items(), key=lambda item: -item[1].cost_nano))

    def days_read_from_records(self) -> set[dt.date]:
        """Today, and days with a mark: the roll-up has not seen all of their records."""
        marked = StaleDay.objects.filter(project=self.project, day__range=(self.first, self.last))
        return {self.project.today(), *marked.values_list("day", flat=True)}

    def _filter_rows(self, rows: "QuerySet[Any]") -> "QuerySet[Any]":
        within = Q(project=self.project, day__range=(self.first, self.last))
        return rows.filter(within, **self.filters).exclude(requested_model="").order_by()


def group_totals(
    rows: "QuerySet[Any]", dimension: str, sums: Mapping[str, Any]
) -> Iterable[tuple[Any, UsageTotals]]:
    for row in rows.values(dimension).annotate(**sums):
        yield row.pop(dimension), UsageTotals(**row)
