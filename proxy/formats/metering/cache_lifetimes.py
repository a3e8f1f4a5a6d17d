"""Lifetimes of cached prompts that a request asks for. A longer lifetime costs more.

Anthropic has `5m` and `1h` (platform.claude.com/docs/en/build-with-claude/prompt-caching, "1-hour cache
duration"). OpenAI has `30m` and `12h` (developers.openai.com/api/docs/guides/prompt-caching and the SDK's
types `PromptCacheOptions` and `PromptCacheBreakpoint`). OpenAI's guide says that `prompt_cache_retention`
does not change the price, but the gateway reserves the price of 12 hours for its value `24h`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from proxy.formats.json_body import ESCAPED_ASCII_LETTER, as_dict

OPTIONS, RETENTION = "prompt_cache_options", "prompt_cache_retention"
CACHE_CONTROL = "cache_control"
MARKS = ("prompt_cache_breakpoint", CACHE_CONTROL)
"""Fields of OpenAI and Anthropic that mark a prompt cache breakpoint."""
SHORT_LIFETIMES = (None, "5m", "30m", "1h", "in_memory", "in-memory")
LONG_LIFETIMES = ("12h", "24h")
KNOWN_LIFETIMES = (*SHORT_LIFETIMES, *LONG_LIFETIMES)
USUAL_LIFETIMES = {b'"5m"': "5m", b'"1h"': "1h", b'"30m"': "30m"}
TTL = re.compile(rb'"ttl"\s*:\s*("[^"]*"|[^\s,}]*)')
Lifetimes = Sequence[tuple[str, Any]]
"""The lifetimes that a request asks for, each with its field."""


def writes_12h_cache(lifetimes: Lifetimes) -> bool:
    """Return whether a request may write to a cache with a lifetime of 12 hours."""
    return any(lifetime in LONG_LIFETIMES for _, lifetime in lifetimes)


def billed_lifetime(lifetimes: Lifetimes, long: str) -> str:
    """Return the lifetime `long` if a request asks for it, else an empty text."""
    return long if any(lifetime == long for _, lifetime in lifetimes) else ""


def unpriced_lifetimes(lifetimes: Lifetimes) -> tuple[str, ...]:
    """Return the fields that ask for a lifetime without a known price."""
    return tuple(name for name, lifetime in lifetimes if lifetime not in KNOWN_LIFETIMES)


def requested_lifetimes(body: bytes, fields: Mapping[str, Any]) -> Lifetimes:
    """Return the lifetimes that a request asks for, each with its field.

    A fast search of the bytes finds the lifetimes of all breakpoints. Only if one of them is unusual, the
    decoded body, which may be large, is searched for its field.
    """
    by_folded_name = {name.casefold(): (name, value) for name, value in fields.items()}
    lifetimes: list[tuple[str, Any]] = []
    if OPTIONS in by_folded_name:
        name, options = by_folded_name[OPTIONS]
        lifetimes.append((name, as_dict(options).get("ttl")))
    if RETENTION in by_folded_name:
        lifetimes.append(by_folded_name[RETENTION])
    found = set(TTL.findall(body))
    if not found <= USUAL_LIFETIMES.keys() or ESCAPED_ASCII_LETTER.search(body):
        return [*lifetimes, *marked_lifetimes(fields)]
    return [*lifetimes, *((CACHE_CONTROL, USUAL_LIFETIMES[lifetime]) for lifetime in found)]


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
