"""Limits of Gemini's models and tools, and the tools that are billed."""

from proxy.formats.neutral import Request, Tool
from proxy.formats.quirks import Quirks
from proxy.formats.tools.offers import Settings

MAX_MODEL_LENGTH = 200
SERVER_TOOL_TOKENS = 3_000
"""Tokens that one of Google's own tools may add to the prompt before it fetches anything."""
TOOL_KINDS = {
    "googleSearch": "web_search",
    "googleSearchRetrieval": "web_search",
    "googleMaps": "google_maps",
    "urlContext": "url_context",
    "codeExecution": "code_execution",
    "fileSearch": "file_search",
    "computerUse": "computer_use",
}
"""Google's own tools, each with the name that it has in all formats."""
TOOL_NAMES = frozenset(TOOL_KINDS) | frozenset(TOOL_KINDS.values()) - {"web_search"}
TOOL_FIELDS = TOOL_NAMES | {
    *("google_search", "google_search_retrieval", "functionDeclarations", "function_declarations")
}
"""Fields of an entry of `tools`: one for each kind of tool."""
SERVER_TOOLS: Settings = dict.fromkeys(("web_search", "web_fetch", "code_execution"), frozenset())
"""Google's own tools. The Gemini API has no settings for them: domains are for Vertex AI only."""
MAX_N = 128


def server_tools_for(request: Request, quirks: Quirks) -> Settings:
    """Return the server tools that can be offered in a request.

    Google's own tools exclude functions before Gemini 3. From then on, the history must repeat their calls
    and results unchanged, which clients of other formats cannot do
    (ai.google.dev/gemini-api/docs/tool-combination).
    """
    has_functions = any(isinstance(tool, Tool) for tool in request.tools)
    return {} if has_functions else quirks.running(SERVER_TOOLS)
