"""Windows of budgets are computed from the clock, never reset by a job: a window's name is its date or month."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from billing.models import Period


def local_day(moment: float, zone: ZoneInfo) -> date:
    """The calendar date of a moment (seconds since the epoch) in a timezone."""
    return datetime.fromtimestamp(moment, zone).date()


def window_name(period: str, day: date) -> str:
    """`2026-11-20` or `2026-11`: the window of a budget that a local date falls into."""
    return day.isoformat() if period == Period.DAY else day.isoformat()[:7]


def days_of(window: str) -> tuple[date, date]:
    """The first and the last local date of a window."""
    if len(window) == len("2026-11-20"):
        day = date.fromisoformat(window)
        return day, day
    first = date.fromisoformat(f"{window}-01")
    return first, (first + timedelta(days=31)).replace(day=1) - timedelta(days=1)


def ends_at(window: str, zone: ZoneInfo) -> datetime:
    """The moment, in UTC, at which a window ends. Days of 23 and 25 hours end at their local midnight."""
    following = days_of(window)[1] + timedelta(days=1)
    return datetime(following.year, following.month, following.day, tzinfo=zone).astimezone(UTC)
