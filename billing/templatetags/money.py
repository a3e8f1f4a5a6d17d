"""Money and durations as people read them."""

from django import template

from billing import money

MICROSECONDS = 1_000_000
register = template.Library()


@register.filter
def usd(nano: int | None) -> str:
    return money.format_usd(nano or 0)


@register.filter
def duration(microseconds: int) -> str:
    """`820 µs`, `340 ms`, `1.24 s`, `2 min 5 s`."""
    if microseconds < 1_000:
        return f"{microseconds} µs"
    if microseconds < MICROSECONDS:
        return f"{microseconds // 1_000} ms"
    if microseconds < 60 * MICROSECONDS:
        return f"{microseconds / MICROSECONDS:.2f} s"
    minutes, seconds = divmod(microseconds // MICROSECONDS, 60)
    return f"{minutes} min {seconds} s"
