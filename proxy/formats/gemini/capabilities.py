"""Limits of Gemini's models and tools, and the tools that are billed."""

import re

MAX_MODEL_LENGTH = 200
SERVER_TOOL_TOKENS = 3_000
"""Tokens that one of Google's own tools may add to the prompt before it fetches anything."""
BILLABLE_TOOLS = dict.fromkeys(
    ("googleSearch", "google_search", "googleSearchRetrieval", "google_search_retrieval"), "web_search"
) | {"googleMaps": "google_maps"}
"""Google's own tools that are billed by the call, with the names that all formats share."""
VALID_FUNCTION_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,127}")
MAX_N = 128
MAX_STOP_SEQUENCES = 5


def is_gemini_3(model: str) -> bool:
    return "gemini-3" in model
