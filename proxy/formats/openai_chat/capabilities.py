"""Differences between models of this format, by the prefix of their names, whichever server runs them."""

import re

from proxy.formats.quirks import Quirks

CACHE_CONTROL_MODEL = re.compile(r"claude")
"""Routers to Anthropic's models read `cache_control`. OpenAI, Groq and others reject unknown fields."""
GOOGLE_MODEL = re.compile(r"gemini")
"""Models whose servers have a field for the signatures of calls. Others may reject it as unknown."""
MAX_CALL_ID_LENGTH = 40
"""OpenAI rejects longer ids of tool calls ("Expected a string with maximum length 40")."""
OPENAI_MODEL = re.compile(r"(o\d|gpt-(?!oss)|chatgpt)")
"""Models that OpenAI serves. The open-weight models are served by others, with other rules."""
REASONING_MODEL = re.compile(r"(o1|o3|o4|gpt-[5-9])")


def is_google_model(model: str) -> bool:
    return GOOGLE_MODEL.search(model) is not None


def is_openai_model(model: str) -> bool:
    return bool(OPENAI_MODEL.match(model))


def rejects_max_tokens(model: str, quirks: Quirks) -> bool:
    """Return whether a request with `max_tokens` is refused: by OpenAI, for its reasoning models."""
    return bool(quirks.max_tokens_field == "max_completion_tokens" and REASONING_MODEL.match(model))


def max_tokens_field(model: str, quirks: Quirks) -> str:
    """Return the field for the output limit: reasoning models reject `max_tokens`.

    Source: platform.openai.com/docs/guides/reasoning.
    """
    return "max_completion_tokens" if REASONING_MODEL.match(model) else quirks.max_tokens_field
