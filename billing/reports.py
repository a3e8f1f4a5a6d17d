"""Usage between two days, exact at any moment: from the roll-up, and from the records of days that it has not seen all of."""

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from typing import Any

from django.db.models import Q, QuerySet, Sum

from billing.models import DailyUsage, DirtyDay, UsageRecord
from billing.models.usage import SUMS
from projects.models import Project

Filters = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Figures:
    """Money is nano-USD. Only requests that asked for a model count: lists of models and reports like this one are not usage."""

    requests: int = 0
    failures: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_nano: int = 0

    def __add__(self, other: "Figures") -> "Figures":
        return Figures(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True, slots=True)
class Report:
    """A project's usage from `first` to `last`, both included, in its own timezone. `filters` are on columns that records and
    the roll-up share."""

    project: Project
    first: dt.date
    last: dt.date
    filters: Filters

    @classmethod
    def of_all_time(cls, project: Project) -> "Report":
        return cls(project, dt.date.min, dt.date.max, {})

    def total(self) -> Figures:
        return sum(self.by("project").values(), Figures())

    def by(self, dimension: str) -> dict[Any, Figures]:
        """Figures for each value of a column, those that cost most first."""
        fresh = self.fresh_days()
        rolled = self.select(DailyUsage.objects.all()).exclude(day__in=fresh)
        records = self.select(UsageRecord.objects.all()).filter(day__in=fresh)
        found: dict[Any, Figures] = {}
        for value, figures in [
            *grouped(rolled, dimension, {name: Sum(name) for name in SUMS}),
            *grouped(records, dimension, SUMS),
        ]:
            found[value] = found.get(value, Figures()) + figures
        return dict(sorted(found.items(), key=lambda item: -item[1].cost_nano))

    def fresh_days(self) -> set[dt.date]:
        """Today, and days with a mark: the roll-up has not seen all of their records."""
        marked = DirtyDay.objects.filter(project=self.project, day__range=(self.first, self.last))
        return {self.project.today(), *marked.values_list("day", flat=True)}

    def select(self, rows: "QuerySet[Any]") -> "QuerySet[Any]":
        within = Q(project=self.project, day__range=(self.first, self.last))
        return rows.filter(within, **self.filters).exclude(model_asked="").order_by()


def grouped(rows: "QuerySet[Any]", dimension: str, sums: Mapping[str, Any]) -> Iterable[tuple[Any, Figures]]:
    for row in rows.values(dimension).annotate(**sums):
        yield row.pop(dimension), Figures(**row)
