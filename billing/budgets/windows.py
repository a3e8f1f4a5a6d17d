"""Windows of budgets are computed from the clock, never reset by a job: a window's name is its date, week, month or `total`."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from billing.models import Period

TOTAL = "total"


def local_day(timestamp: float, timezone: ZoneInfo) -> date:
    """The calendar date of a moment (seconds since the epoch) in a timezone."""
    return datetime.fromtimestamp(timestamp, timezone).date()


def window_name(period: str, day: date) -> str:
    """`2026-11-20`, `2026-W47` (ISO 8601: weeks begin on Monday), `2026-11` or `total`: the window of a budget that a local
    date falls into.
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
    """The windows of all periods that a local date falls into."""
    return (window_name(period, day) for period in Period)


def window_days(window: str) -> tuple[date, date]:
    """The first and the last local date of a window."""
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
    """The moment, in UTC, at which a window ends; None for the one that never does. Days of 23 and 25 hours end at their
    local midnight.
    """
    if window == TOTAL:
        return None
    next_day = window_days(window)[1] + timedelta(days=1)
    return datetime(next_day.year, next_day.month, next_day.day, tzinfo=timezone).astimezone(UTC)
