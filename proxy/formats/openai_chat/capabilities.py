"""Differences between models of this format, by the prefix of their names, whichever server runs them."""

import re

from proxy.formats.quirks import Quirks

CACHE_CONTROL_MODEL = re.compile(r"claude")
"""Routers to Anthropic's models read `cache_control`. OpenAI, Groq and others reject unknown fields."""
MAX_STOP_SEQUENCES = 4
EFFORT_ALIASES = {
    "none": "none",
    "minimal": "minimal",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
    "max": "high",
}
"""Efforts of other formats, each with the nearest one that older models accept."""
MAX_CALL_ID_LENGTH = 40
"""OpenAI rejects longer ids of tool calls ("Expected a string with maximum length 40")."""
OPENAI_MODEL = re.compile(r"(o\d|gpt-(?!oss)|chatgpt)")
"""Models that OpenAI serves. The open-weight models are served by others, with other rules."""
REASONING_MODEL = re.compile(r"(o1|o3|o4|gpt-5)")
NO_STOP_MODEL = re.compile(r"(o3(?!-mini)|o4|gpt-5)")
"""Models that reject `stop`: "not supported with latest reasoning models" (docs/api-reference/chat/create).

o1 and o3-mini accept it.
"""
NON_REASONING_MODEL = re.compile(r"(gpt-3|gpt-4|chatgpt)")


def nearest_effort(model: str, effort: str) -> str:
    """Return the nearest effort that a model accepts (platform.openai.com/docs/guides/latest-model).

    The older models of OpenAI cannot stop reasoning; the newer ones have no `minimal`.
    """
    if re.match(r"gpt-5\.[2-9]", model):
        return {"minimal": "low", "max": "xhigh"}.get(effort, effort)
    effort = EFFORT_ALIASES.get(effort, effort)
    if re.match(r"gpt-5\.1", model):
        return "low" if effort == "minimal" else effort
    if re.match(r"gpt-5", model):
        return "minimal" if effort == "none" else effort
    if REASONING_MODEL.match(model):
        return "low" if effort in ("none", "minimal") else effort
    return effort


def is_openai_model(model: str) -> bool:
    return bool(OPENAI_MODEL.match(model))


def max_tokens_field(model: str, quirks: Quirks) -> str:
    """Return the field for the output limit: reasoning models reject `max_tokens`.

    Source: platform.openai.com/docs/guides/reasoning.
    """
    return "max_completion_tokens" if REASONING_MODEL.match(model) else quirks.max_tokens_field
