"""Template filters that format money and durations."""

from django import template

from billing import money
from billing.pricing.price import ESTIMATED_PREFIX, MODEL_SEPARATOR

MILLISECOND_US = 1_000
SECOND_US = 1_000_000
COST_LABELS = {
    "input": "Input",
    "cache_read": "Cached input",
    "cache_write_5m": "Input written to a 5- or 30-minute cache",
    "cache_write_1h": "Input written to a 1-hour cache",
    "cache_write_12h": "Input written to a 12-hour cache",
    "request": "Fee per request",
    "input_audio": "Audio input, in addition to the text rate",
    "input_image": "Image input, in addition to the text rate",
    "input_video": "Video input, in addition to the text rate",
    "cached_audio": "Cached audio input, in addition to the text rate",
    "cached_image": "Cached image input, in addition to the text rate",
    "cached_video": "Cached video input, in addition to the text rate",
    "output_audio": "Audio output, in addition to the text rate",
    "output_image": "Image output, in addition to the text rate",
    "output_video": "Video output, in addition to the text rate",
    "google_maps": "Google Maps",
    "image_generation": "Generated images",
    "rounding": "Rounding to a nano-dollar",
    "attempt": "Call of a provider",
    "reserved": "Reserved amount, because the usage is not known",
}
OTHER_MODEL_LABELS = {
    "text_input": "text input",
    "cached_text_input": "cached text input",
    "image_input": "image input",
    "cached_image_input": "cached image input",
    "text_output": "text output",
    "image_output": "generated images",
}
register = template.Library()


@register.filter
def usd(nano: int | None) -> str:
    return money.format_usd(nano or 0)


@register.filter
def rate(nano: int) -> str:
    """Format a rate (nano-USD) with all of its digits: `$0.075`."""
    return money.exact_usd(nano * 10**6).removesuffix(".00")


@register.filter
def usd_exact(femto: int) -> str:
    return money.exact_usd(femto)


@register.filter
def cost_label(kind: str) -> str:
    """Return the label of a kind of cost line, for example `cache_read` or `gpt-image-2: image_output`."""
    model, is_other_model, tokens = kind.partition(MODEL_SEPARATOR)
    if is_other_model:
        reported = tokens.removeprefix(ESTIMATED_PREFIX)
        note = "" if tokens == reported else ", estimated"
        return f"{model}: {OTHER_MODEL_LABELS.get(reported, reported)}{note}"
    return COST_LABELS.get(kind) or kind.replace("_", " ").capitalize()


@register.filter
def duration(microseconds: int) -> str:
    """Format a duration: `820 µs`, `340 ms`, `1.24 s`, `2 min 5 s`."""
    if microseconds < MILLISECOND_US:
        return f"{microseconds} µs"
    if microseconds < SECOND_US:
        return f"{microseconds // MILLISECOND_US} ms"
    if microseconds < 60 * SECOND_US:
        return f"{microseconds / SECOND_US:.2f} s"
    minutes, seconds = divmod(microseconds // SECOND_US, 60)
    return f"{minutes} min {seconds} s"
