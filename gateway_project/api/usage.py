"""Usage of a project as a table: grouped by any of its dimensions, by day or hour, as JSON or CSV."""

import csv
import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any
from urllib.parse import urlencode

from django.http import HttpResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing.usage.reports import Dimension, Hour, UsageReport, UsageTotals
from billing.usage.tags import TagValue
from gateway_project.api.envelope import InvalidFields, success
from gateway_project.api.pagination import parse_limit, sign_cursor, unsign_cursor
from gateway_project.api.serializers import Serializer, UsdOutput
from gateway_project.api.views import PAGE_PARAMETERS, ProjectView, Rule
from projects.models import Project, Role
from proxy.endpoints import usage_query
from proxy.formats.neutral import InvalidRequest

COLUMNS = {"model": "requested_model", "provider": "provider", "key": "key__public_id"}
TAG_PREFIX = "tag:"
MAX_DIMENSIONS = 4
MAX_HOURLY_DAYS = 31
Values = tuple[str, ...]
"""The values of a row's dimensions as texts; empty for requests without a value."""
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""First characters of cells that spreadsheets run as formulas."""
OWN_PARAMETERS = ("groupBy", "granularity", "format", "limit", "cursor")
PARAMETERS = [
    OpenApiParameter("days", int, description="Number of days up to `to`, or up to today: 1 to 3660."),
    OpenApiParameter("from", dt.date, description="The first day, in the project's timezone."),
    OpenApiParameter("to", dt.date, description="The last day."),
    OpenApiParameter("groupBy", str, description="Up to 4 of model, provider, key, tag:NAME."),
    OpenApiParameter("granularity", str, enum=["total", "day", "hour"], description="The time of a row."),
    OpenApiParameter("model", str, description="Only requests for this model."),
    OpenApiParameter("provider", str, description="Only requests to this provider."),
    OpenApiParameter("keyId", str, description="Only requests with this API key."),
    OpenApiParameter("tag", str, description="Only requests with this tag, such as team:search."),
    OpenApiParameter("format", str, enum=["json", "csv"], description="csv: all rows as a file."),
    *PAGE_PARAMETERS,
]


class Sums(Serializer):
    """Sums over requests. `cost` and `saved` are US dollars."""

    requests = serializers.IntegerField()
    failed_requests = serializers.IntegerField(source="failures")
    prompt_tokens = serializers.IntegerField(source="input_tokens")
    completion_tokens = serializers.IntegerField(source="output_tokens")
    cost = UsdOutput(source="cost_nano")
    cost_nano_usd = serializers.IntegerField(source="cost_nano")
    saved = UsdOutput(source="saved_nano")


class UsageRow(Sums):
    """The sums of one combination of values. `time` is a day, or the start of an hour in UTC."""

    time = serializers.CharField(allow_null=True)
    group = serializers.DictField(child=serializers.CharField())


class UsagePeriod(Serializer):
    """The days of a report in the project's timezone."""

    first = serializers.DateField()
    last = serializers.DateField()
    timezone = serializers.CharField()


class UsageOutput(Serializer):
    """A page of rows, and the sums over all of them."""

    period = UsagePeriod()
    total = Sums()
    rows = UsageRow(many=True)
    next_cursor = serializers.CharField(allow_null=True)


@dataclass(frozen=True, slots=True)
class Table:
    """A report, its unit of time (`total` for none), and the names of its groups."""

    report: UsageReport
    granularity: str
    groups: tuple[str, ...]

    @property
    def dimensions(self) -> list[Dimension]:
        time: dict[str, list[Dimension]] = {"total": [], "day": ["day"], "hour": [Hour()]}
        return [*time[self.granularity], *map(dimension, self.groups)]

    def rows(self) -> list[tuple[Values, UsageTotals]]:
        """Return all rows in the order of their values."""
        found = self.report.table(self.dimensions)
        return sorted((tuple(map(text_of, values)), totals) for values, totals in found.items())

    def named(self, values: Values, totals: UsageTotals) -> dict[str, Any]:
        """Return a row with the names of its values."""
        time, groups = (None, values) if self.granularity == "total" else (values[0], values[1:])
        group = dict(zip(self.groups, groups, strict=True))
        return {**Sums(totals).data, "time": time, "group": group}


class ProjectUsage(ProjectView):
    """The usage of a project."""

    rules = {"GET": Rule(Role.VIEWER, ("usage:read",))}

    @extend_schema(
        operation_id="getUsage",
        parameters=PARAMETERS,
        responses={(200, "application/json"): UsageOutput, (200, "text/csv"): str},
    )
    def get(self, request: Request, **_: str) -> Response | HttpResponse:
        """Return sums of requests, tokens and costs, in rows by time and group."""
        table = parse_table(request, self.project)
        rows = table.rows()
        if request.query_params.get("format") == "csv":
            return csv_response(table, rows)
        context = f"usage-{self.project.pk}-{query_without(request, 'cursor', 'limit')}"
        shown, cursor = page_of(rows, request, context)
        total = sum((totals for _values, totals in rows), UsageTotals())
        body = {
            "period": UsagePeriod(period_of(table.report)).data,
            "total": Sums(total).data,
            "rows": [table.named(values, totals) for values, totals in shown],
            "nextCursor": cursor,
        }
        return success(body)


def parse_table(request: Request, project: Project) -> Table:
    """Return the table of a query. Raises InvalidFields."""
    try:
        query = usage_query.parse_query(query_without(request, *OWN_PARAMETERS), project)
    except InvalidRequest as error:
        raise InvalidFields({error.param or "": [str(error)]}) from None
    if empty := [name for name, value in request.query_params.items() if not value]:
        raise InvalidFields({empty[0]: ["This parameter has no value."]})
    granularity = choice(request, "granularity", ("total", "day", "hour"))
    choice(request, "format", ("json", "csv"))
    report = query.report
    if granularity == "hour" and (report.last - report.first).days >= MAX_HOURLY_DAYS:
        raise InvalidFields({"granularity": [f"Hours are possible for at most {MAX_HOURLY_DAYS} days."]})
    return Table(report, granularity, parse_groups(request.query_params.get("groupBy", "")))


def parse_groups(text: str) -> tuple[str, ...]:
    """Return the names of the groups. Raises InvalidFields."""
    names = tuple(dict.fromkeys(filter(None, text.split(","))))
    unknown = [name for name in names if name not in COLUMNS and not name.startswith(TAG_PREFIX)]
    if unknown or TAG_PREFIX in names or len(names) > MAX_DIMENSIONS or not text.isprintable():
        known = f"{', '.join(COLUMNS)} and {TAG_PREFIX}NAME"
        raise InvalidFields({"groupBy": [f"Name at most {MAX_DIMENSIONS} of {known}, comma-separated."]})
    return names


def choice(request: Request, name: str, choices: Sequence[str]) -> str:
    """Return a parameter. The default is the first choice. Raises InvalidFields."""
    value: str = request.query_params.get(name, choices[0])
    if value not in choices:
        raise InvalidFields({name: [f"Choose one of {', '.join(choices)}."]})
    return value


def query_without(request: Request, *names: str) -> str:
    """Return the query string without some parameters."""
    pairs = [(name, value) for name, values in request.query_params.lists() for value in values]
    return urlencode([(name, value) for name, value in pairs if name not in names])


def dimension(name: str) -> Dimension:
    return COLUMNS[name] if name in COLUMNS else TagValue(name.removeprefix(TAG_PREFIX))


def text_of(value: object) -> str:
    """Return a value as text that sorts like the value. Hours are in UTC."""
    return "" if value is None else value.isoformat() if isinstance(value, dt.date) else str(value)


def period_of(report: UsageReport) -> dict[str, Any]:
    return {"first": report.first, "last": report.last, "timezone": report.project.timezone}


def page_of(
    rows: list[tuple[Values, UsageTotals]], request: Request, context: str
) -> tuple[list[tuple[Values, UsageTotals]], str | None]:
    """Return the rows after the cursor, and the cursor of the next page. Raises InvalidFields."""
    limit = parse_limit(request)
    if given := request.query_params.get("cursor"):
        after = tuple(unsign_cursor(given, context))
        rows = [row for row in rows if row[0] > after]
    return rows[:limit], sign_cursor(context, rows[limit - 1][0]) if len(rows) > limit else None


def csv_response(table: Table, rows: list[tuple[Values, UsageTotals]]) -> HttpResponse:
    """Return all rows as a file."""
    file = StringIO()
    writer = csv.writer(file)
    time = [] if table.granularity == "total" else ["time"]
    writer.writerow([*time, *map(neutral_cell, table.groups), *Sums(UsageTotals()).data])
    for values, totals in rows:
        writer.writerow([*map(neutral_cell, values), *Sums(totals).data.values()])
    name = f"usage-{table.report.project.slug}-{table.report.first}-{table.report.last}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return HttpResponse(file.getvalue(), content_type="text/csv; charset=utf-8", headers=headers)


def neutral_cell(text: str) -> str:
    """Return a cell that spreadsheets do not run as a formula."""
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text
