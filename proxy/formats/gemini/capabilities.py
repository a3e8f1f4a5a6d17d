"""What Gemini's models and tools accept, and what is billed for them."""

import re

MAX_MODEL_LENGTH = 200
SERVER_TOOL_TOKENS = 3_000
"""What a tool of Google's own may add to the prompt before it fetches anything."""
BILLABLE_TOOLS = dict.fromkeys(
    ("googleSearch", "google_search", "googleSearchRetrieval", "google_search_retrieval"), "web_search"
) | {"googleMaps": "google_maps"}
"""Google's own tools that it bills by the call, under the names that all formats share."""
VALID_FUNCTION_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,127}")
MAX_N = 128
MAX_STOP_SEQUENCES = 5


def is_gemini_3(model: str) -> bool:
    return "gemini-3" in model
