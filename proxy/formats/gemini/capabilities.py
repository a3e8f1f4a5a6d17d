"""Features of the Gemini API: limits, and the tools that Google runs and bills."""

from proxy.formats.neutral import Request, Tool
from proxy.formats.quirks import Quirks
from proxy.formats.tools.offers import Settings

MAX_MODEL_LENGTH = 200
SERVER_TOOL_TOKENS = 3_000
"""The assumed maximum of tokens that one of Google's own tools adds to the prompt.

What the tool fetches is not included.
"""
TOOL_KINDS = {
    "googleSearch": "web_search",
    "googleSearchRetrieval": "web_search",
    "googleMaps": "google_maps",
    "urlContext": "url_context",
    "codeExecution": "code_execution",
    "fileSearch": "file_search",
    "computerUse": "computer_use",
}
"""The fields that declare Google's own tools, each with the gateway's name for this kind of tool."""
TOOL_NAMES = frozenset(TOOL_KINDS) | frozenset(TOOL_KINDS.values()) - {"web_search"}
TOOL_FIELDS = TOOL_NAMES | {
    *("google_search", "google_search_retrieval", "functionDeclarations", "function_declarations")
}
"""The fields that an entry of `tools` may have. Each field declares one kind of tool."""
SERVER_TOOLS: Settings = dict.fromkeys(("web_search", "web_fetch", "code_execution"), frozenset())
"""The server tools that Google can run. The Gemini API has no settings for them.

Only Vertex AI lets a request exclude domains.
"""
MAX_N = 128


def server_tools_for(request: Request, quirks: Quirks) -> Settings:
    """Return the server tools that a request to Gemini can offer.

    The result is empty if the request also has functions. Models before Gemini 3 do not accept both. Gemini 3
    does, but then the history must repeat the calls and results of Google's tools unchanged, and clients of
    other formats cannot store them (ai.google.dev/gemini-api/docs/tool-combination).
    """
    has_functions = any(isinstance(tool, Tool) for tool in request.tools)
    return {} if has_functions else quirks.running(SERVER_TOOLS)
