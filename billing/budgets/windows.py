"""Names and dates of budget windows.

No task resets budgets: each period has a window of its own, whose name follows from the date.
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from billing.models import Period

TOTAL = "total"


def local_day(timestamp: float, timezone: ZoneInfo) -> date:
    """Return the calendar date of a Unix timestamp (seconds) in a timezone."""
    return datetime.fromtimestamp(timestamp, timezone).date()


def window_name(period: str, day: date) -> str:
    """Return the name of the window that contains a local date.

    It is `2026-11-20`, `2026-W47` (ISO 8601: weeks start on Monday), `2026-11` or `total`.
    """
    match period:
        case Period.DAY:
            return day.isoformat()
        case Period.WEEK:
            year, week, _ = day.isocalendar()
            return f"{year:04}-W{week:02}"
        case Period.MONTH:
            return day.isoformat()[:7]
        case _:
            return TOTAL


def window_names(day: date) -> Iterable[str]:
    """Return the names of the windows of all periods that contain a local date."""
    return (window_name(period, day) for period in Period)


def window_days(window: str) -> tuple[date, date]:
    """Return the first and the last local date of a window."""
    if window == TOTAL:
        return date.min, date.max
    if "W" in window:
        year, week = window.split("-W")
        first = date.fromisocalendar(int(year), int(week), 1)
        return first, first + timedelta(days=6)
    if len(window) == len("2026-11-20"):
        day = date.fromisoformat(window)
        return day, day
    first = date.fromisoformat(f"{window}-01")
    return first, (first + timedelta(days=31)).replace(day=1) - timedelta(days=1)


def ends_at(window: str, timezone: ZoneInfo) -> datetime | None:
    """Return the UTC time at which a window ends; None for `total`, which does not end.

    A window ends at local midnight, even if its last day has 23 or 25 hours.
    """
    if window == TOTAL:
        return None
    next_day = window_days(window)[1] + timedelta(days=1)
    return datetime(next_day.year, next_day.month, next_day.day, tzinfo=timezone).astimezone(UTC)
