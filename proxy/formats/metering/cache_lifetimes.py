"""Lifetimes of cached prompts that a request asks for. A longer lifetime costs more.

Anthropic has `5m` and `1h` (platform.claude.com/docs/en/build-with-claude/prompt-caching, "1-hour cache
duration"). OpenAI has `30m` and `12h` (developers.openai.com/api/docs/guides/prompt-caching and the SDK's
types `PromptCacheOptions` and `PromptCacheBreakpoint`). OpenAI's guide says that `prompt_cache_retention`
does not change the price, but the gateway reserves the price of 12 hours for its value `24h`.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from proxy.formats.json_body import ESCAPED_ASCII_LETTER, as_dict, contains_any

OPTIONS, RETENTION = "prompt_cache_options", "prompt_cache_retention"
MARKS = ("prompt_cache_breakpoint", "cache_control")
"""Fields of OpenAI and Anthropic that mark a prompt cache breakpoint."""
SHORT_LIFETIMES = (None, "5m", "30m", "1h", "in_memory", "in-memory")
LONG_LIFETIMES = ("12h", "24h")
KNOWN_LIFETIMES = (*SHORT_LIFETIMES, *LONG_LIFETIMES)
USUAL_LIFETIMES = (b'"5m"', b'"1h"', b'"30m"')
TTL = re.compile(rb'"ttl"\s*:\s*("[^"]*"|[^\s,}]*)')


def writes_12h_cache(body: bytes, fields: Mapping[str, Any]) -> bool:
    """Return whether a request may write to a cache with a lifetime of 12 hours."""
    return any(lifetime in LONG_LIFETIMES for _, lifetime in requested_lifetimes(body, fields))


def requests_12h_cache(body: bytes, fields: Mapping[str, Any]) -> bool:
    """Return whether a request asks for cache writes that OpenAI bills as such of 12 hours."""
    return any(lifetime == "12h" for _, lifetime in requested_lifetimes(body, fields))


def may_write_1h_cache(body: bytes) -> bool:
    """Return whether a request may ask Anthropic to cache its prompt for an hour.

    The content, which may be large, is not decoded. So the result is also true for some other requests.
    """
    return contains_any(body, (b'"1h"',))


def unpriced_lifetimes(body: bytes, fields: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the fields that ask for a lifetime without a known price."""
    lifetimes = requested_lifetimes(body, fields)
    return tuple(name for name, lifetime in lifetimes if lifetime not in KNOWN_LIFETIMES)


def requested_lifetimes(body: bytes, fields: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the lifetimes that a request asks for, each with its field.

    If all breakpoints in the content have a usual lifetime, as in most requests, they are left out, so that
    the content, which may be large, need not be searched.
    """
    by_folded_name = {name.casefold(): (name, value) for name, value in fields.items()}
    lifetimes = []
    if OPTIONS in by_folded_name:
        name, options = by_folded_name[OPTIONS]
        lifetimes.append((name, as_dict(options).get("ttl")))
    if RETENTION in by_folded_name:
        lifetimes.append(by_folded_name[RETENTION])
    if ESCAPED_ASCII_LETTER.search(body) or not all(ttl in USUAL_LIFETIMES for ttl in TTL.findall(body)):
        lifetimes += marked_lifetimes(fields)
    return lifetimes


def marked_lifetimes(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the lifetimes of all breakpoints in a request, at every depth."""
    match value:
        case Mapping():
            yield from ((name, as_dict(value[name]).get("ttl")) for name in MARKS if name in value)
            for item in value.values():
                yield from marked_lifetimes(item)
        case list():
            for item in value:
                yield from marked_lifetimes(item)
        case _:
            return
