"""Money and durations as people read them."""

from django import template

from billing import money
from billing.pricing.price import ESTIMATED_PREFIX, MODEL_SEPARATOR

MILLISECOND = 1_000
SECOND = 1_000_000
COST_LABELS = {
    "input": "Input",
    "cache_read": "Input read from a cache",
    "cache_write_5m": "Input written to a cache for 5 minutes",
    "cache_write_1h": "Input written to a cache for an hour",
    "request": "Fee of each request",
    "input_audio": "Sound in the input, above the rate of text",
    "input_image": "Pictures in the input, above the rate of text",
    "input_video": "Films in the input, above the rate of text",
    "cached_audio": "Sound read from a cache, above the rate of text",
    "cached_image": "Pictures read from a cache, above the rate of text",
    "cached_video": "Films read from a cache, above the rate of text",
    "output_audio": "Sound in the output, above the rate of text",
    "output_image": "Pictures in the output, above the rate of text",
    "output_video": "Films in the output, above the rate of text",
    "google_maps": "Google Maps",
    "image_generation": "Pictures made",
    "rounding": "Rounding to a thousand-millionth of a dollar",
    "reserved": "Reserved amount, charged because the usage is not known",
}
OTHER_MODEL_LABELS = {
    "text_input": "text read",
    "cached_text_input": "text read from a cache",
    "image_input": "pictures read",
    "cached_image_input": "pictures read from a cache",
    "text_output": "text written",
    "image_output": "pictures made",
}
register = template.Library()


@register.filter
def usd(nano: int | None) -> str:
    return money.format_usd(nano or 0)


@register.filter
def rate(nano: int) -> str:
    """To the last digit: `$0.075`."""
    return money.exact_usd(nano * 10**6).removesuffix(".00")


@register.filter
def usd_exact(femto: int) -> str:
    return money.exact_usd(femto)


@register.filter
def cost_label(kind: str) -> str:
    """What a line of a cost is for."""
    model, is_other_model, tokens = kind.partition(MODEL_SEPARATOR)
    if is_other_model:
        reported = tokens.removeprefix(ESTIMATED_PREFIX)
        return f"{model}: {OTHER_MODEL_LABELS.get(reported, reported)}{'' if tokens == reported else ', estimated'}"
    return COST_LABELS.get(kind) or kind.replace("_", " ").capitalize()


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
