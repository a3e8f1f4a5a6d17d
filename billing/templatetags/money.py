"""Money and durations as people read them."""

from django import template

from billing import money

MILLISECOND = 1_000
SECOND = 1_000_000
register = template.Library()


@register.filter
def usd(nano: int | None) -> str:
    return money.format_usd(nano or 0)


@register.filter
def duration(microseconds: int) -> str:
    """`820 µs`, `340 ms`, `1.24 s`, `2 min 5 s`."""
    if microseconds < MILLISECOND:
        return f"{microseconds} µs"
    if microseconds < SECOND:
        return f"{microseconds // MILLISECOND} ms"
    if microseconds < 60 * SECOND:
        return f"{microseconds / SECOND:.2f} s"
    minutes, seconds = divmod(microseconds // SECOND, 60)
    return f"{minutes} min {seconds} s"
