"""Limits of Gemini's models and tools, and the tools that are billed."""

import re

MAX_MODEL_LENGTH = 200
SERVER_TOOL_TOKENS = 3_000
"""Tokens that one of Google's own tools may add to the prompt before it fetches anything."""
BILLABLE_TOOLS = dict.fromkeys(
    ("googleSearch", "google_search", "googleSearchRetrieval", "google_search_retrieval"), "web_search"
) | {"googleMaps": "google_maps"}
"""Google's own tools that are billed by the call, with the names that all formats share."""
MAX_N = 128
LEVEL_MODEL = re.compile(r"gemini-([3-9]|\d\d|.*latest)")


def has_thinking_levels(model: str) -> bool:
    """Return whether a model is of Gemini 3 or later.

    They think by levels, want signatures of calls back, and take media in results.
    """
    return LEVEL_MODEL.search(model) is not None
