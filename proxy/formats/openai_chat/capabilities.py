"""Differences between models of this format, by the prefix of their names, at any server."""

import re

from proxy.formats.neutral import Request
from proxy.formats.quirks import Quirks
from proxy.formats.tools.offers import Settings

CACHE_CONTROL_MODEL = re.compile(r"claude")
"""Models whose servers accept `cache_control`. Servers of other models may reject the field."""
GOOGLE_MODEL = re.compile(r"gemini")
"""Models whose servers have a field for signatures of calls. Servers of other models may reject it."""
MAX_CALL_ID_LENGTH = 40
"""OpenAI rejects longer ids of tool calls ("Expected a string with maximum length 40")."""
OPENAI_MODEL = re.compile(r"(o\d|gpt-(?!oss)|chatgpt)")
"""Models that OpenAI itself serves. Other providers serve its open-weight models, with other rules."""
REASONING_MODEL = re.compile(r"(o1|o3|o4|gpt-[5-9])")
SEARCH_MODEL = re.compile(r"gpt-4o(-mini)?-search-preview|gpt-5-search-api")
"""Models that search the web in chat completions; all others reject `web_search_options`.

Source: developers.openai.com/api/docs/guides/tools-web-search, "Chat Completions".
"""
SERVER_TOOLS: Settings = {"web_search": frozenset({"user_location", "search_context_size"})}


def is_google_model(model: str) -> bool:
    return GOOGLE_MODEL.search(model) is not None


def is_openai_model(model: str) -> bool:
    return bool(OPENAI_MODEL.match(model))


def rejects_max_tokens(model: str, quirks: Quirks) -> bool:
    """Return whether the destination rejects `max_tokens`, as OpenAI does for its reasoning models."""
    return bool(quirks.max_tokens_field == "max_completion_tokens" and REASONING_MODEL.match(model))


def max_tokens_field(model: str, quirks: Quirks) -> str:
    """Return the name of the field for the output limit. Reasoning models reject `max_tokens`.

    Source: platform.openai.com/docs/guides/reasoning.
    """
    return "max_completion_tokens" if REASONING_MODEL.match(model) else quirks.max_tokens_field


def server_tools_for(request: Request, quirks: Quirks) -> Settings:
    """Return the server tools that a request can offer, each with its supported settings."""
    return quirks.running(SERVER_TOOLS) if SEARCH_MODEL.match(request.model) else {}
