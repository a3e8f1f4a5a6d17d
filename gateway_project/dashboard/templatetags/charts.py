"""Charts, which the server renders as SVG. All lengths are integers in units of the drawing."""

import calendar
import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django import template

from billing.budgets.status import BudgetStatus
from billing.money import format_usd

register = template.Library()

PLOT_HEIGHT = 100
SLOT_WIDTH = 20
GAP = 4
MIN_BAR_HEIGHT = 2
METER_WIDTH = 1000
WARN_AT = 800
"""The used part of a limit, in permille, from which the meter shows a warning."""


@dataclass(frozen=True, slots=True)
class Bar:
    title: str
    slot_x: int
    height: int
    kind: str

    @property
    def x(self) -> int:
        return self.slot_x + GAP // 2

    @property
    def y(self) -> int:
        return PLOT_HEIGHT - self.height


def bar(day: dt.date, today: dt.date, nano: int, highest: int) -> Bar:
    height = max(nano * PLOT_HEIGHT // highest, MIN_BAR_HEIGHT) if nano and highest else MIN_BAR_HEIGHT
    kind = "empty" if not nano else "today" if day == today else "past"
    return Bar(f"{day:%B} {day.day}: {format_usd(nano)}", (day.day - 1) * SLOT_WIDTH, height, kind)


@register.inclusion_tag("ui/month_chart.html")
def month_chart(spending: Mapping[dt.date, int], today: dt.date) -> dict[str, Any]:
    """Draw one bar for each day of the month of `today`. Later days are drawn as empty."""
    length = calendar.monthrange(today.year, today.month)[1]
    days = [today.replace(day=number) for number in range(1, length + 1)]
    highest = max(spending.values(), default=0)
    return {
        "bars": [bar(day, today, spending.get(day, 0), highest) for day in days],
        "first": days[0],
        "last": days[-1],
        "highest": highest,
        "width": length * SLOT_WIDTH,
        "height": PLOT_HEIGHT,
        "slot_width": SLOT_WIDTH,
        "bar_width": SLOT_WIDTH - GAP,
    }


def permille(part: int, limit: int) -> int:
    """Return `part` of `limit` in permille, at most 1000. A limit of 0 counts as fully used."""
    return min(part * METER_WIDTH // limit, METER_WIDTH) if limit else METER_WIDTH


@register.inclusion_tag("ui/budget_meter.html")
def budget_meter(label: str, status: BudgetStatus) -> dict[str, Any]:
    """Draw how much of a budget is spent, reserved by requests in flight, and remaining."""
    limit = status.budget.limit_nano
    spent_width = permille(status.spent, limit)
    used_width = permille(status.spent + status.reserved, limit)
    return {
        "label": label,
        "period": status.budget.get_period_display(),
        "spent": status.spent,
        "reserved": status.reserved,
        "limit": limit,
        "remaining": status.remaining,
        "spent_width": spent_width,
        "reserved_width": used_width - spent_width,
        "percent": used_width // 10,
        "state": "exceeded" if used_width == METER_WIDTH else "warning" if used_width >= WARN_AT else "ok",
    }
