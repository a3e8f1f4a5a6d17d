"""Token counts: parse the counts that servers report, and estimate the output."""

from typing import Any

from proxy.formats.neutral import Usage

BYTES_PER_TOKEN = 4
SINGLE_TOKEN_MAX_BYTES = 16
MAX_COUNT_DIGITS = 12


def estimate_tokens(byte_count: int) -> int:
    """Return the estimated number of tokens in a text with this many bytes.

    Most providers send one token in each chunk. Longer text has about four bytes in each token.
    """
    if byte_count <= SINGLE_TOKEN_MAX_BYTES:
        return 1 if byte_count else 0
    return -(-byte_count // BYTES_PER_TOKEN)


def estimate_text_tokens(text: str) -> int:
    return estimate_tokens(text_bytes(text))


def as_count(value: Any) -> int | None:
    """Return a count that a server sent as an integer, float or string; None for any other value."""
    match value:
        case bool():
            return None
        case int():
            return value
        case float() if value.is_integer():
            return int(value)
        case str() if value.isdecimal() and len(value) <= MAX_COUNT_DIGITS:
            return int(value)
        case _:
            return None


def as_counts(wire: Any, *names: str) -> list[int] | None:
    """Return the counts of these names, with zero for missing ones; None if any value is not a count."""
    given = [getattr(wire, name) for name in names]
    counts = [0 if value is None else as_count(value) for value in given]
    return None if None in counts else [count for count in counts if count is not None]


def input_and_output(given: Any, made: Any, total: Any) -> tuple[int, int] | None:
    """Return the counts of input and output tokens.

    If the output is not reported, it is computed from the total. The result is None if a count has a wrong
    type or cannot be determined.
    """
    input, output, all_tokens = as_count(given), as_count(made), as_count(total)
    if made is None and input is not None and all_tokens is not None:
        output = all_tokens - input
    return None if input is None or output is None else (input, output)


def output_with_reasoning(prompt: int, output: int, reasoning: int, total: int | None) -> int:
    """Return the output tokens, including reasoning.

    xAI and some compatible servers do not count reasoning as output, but bill it (docs.x.ai, "Reasoning":
    usage). This is the case if the total includes the reasoning in addition to the output, or else if more
    reasoning than output is reported.
    """
    is_missing = total == prompt + output + reasoning or (reasoning > output and total != prompt + output)
    return output + reasoning if is_missing else output


def detail_count(details: Any, name: str) -> int:
    """Return a count from the details of another count; 0 if it is not a count."""
    return (as_count(details.get(name)) or 0) if isinstance(details, dict) else 0


def cache_writes(details: Any, lifetime: str = "") -> tuple[int, int]:
    """Return the tokens written to OpenAI's cache, and the part that OpenAI keeps for 12 hours.

    `details` are the details of the input count. If they do not report lifetimes, `lifetime` is assumed for
    all writes. OpenAI keeps the other writes for 30 minutes (the SDK's type
    `InputTokensDetailsCacheWriteTokensDetails`).
    """
    by_lifetime = details.get("cache_write_tokens_details") if isinstance(details, dict) else None
    for_30m, for_12h = (detail_count(by_lifetime, f"ttl_{span}_tokens") for span in ("30m", "12h"))
    written = max(detail_count(details, "cache_write_tokens"), for_30m + for_12h)
    is_assumed = lifetime == "12h" and not for_30m + for_12h
    return written, written if is_assumed else for_12h


def render_cache_writes(usage: Usage) -> dict[str, Any]:
    """Render cache writes in OpenAI's form, with details by lifetime if some are kept for 12 hours."""
    rendered: dict[str, Any] = {"cache_write_tokens": usage.cache_write}
    if usage.cache_write_12h:
        shorter = usage.cache_write - usage.cache_write_12h
        rendered["cache_write_tokens_details"] = {
            "ttl_30m_tokens": shorter,
            "ttl_12h_tokens": usage.cache_write_12h,
        }
    return rendered


def text_bytes(value: Any) -> int:
    """Return the number of bytes in all texts inside a value."""
    match value:
        case str():
            return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
        case dict():
            return sum(map(text_bytes, value.values()))
        case list():
            return sum(map(text_bytes, value))
        case _:
            return 0
