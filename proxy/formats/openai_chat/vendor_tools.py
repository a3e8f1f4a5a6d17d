"""Server tools in chat completions.

OpenAI has one, in a separate field: `web_search_options`
(developers.openai.com/api/docs/guides/tools-web-search, "Chat Completions"). Compatible servers accept others
as entries of `tools`: openrouter.ai/docs/guides/features/server-tools, console.groq.com/docs/browser-search.
Some clients send declarations of other vendors in `tools`.
"""

from typing import Any

from proxy.formats.json_body import as_dict, as_str
from proxy.formats.neutral import (
    CodeExecution,
    Request,
    ServerTool,
    SharedTool,
    WebFetch,
    WebSearch,
)
from proxy.formats.openai_chat.wire import FORMAT
from proxy.formats.tools.offers import VERSION
from proxy.formats.tools.settings import domains, parse_limit, parse_location, render_location

WEB_SEARCH_FIELD = "web_search_options"
SEARCH_TYPES = (
    "web_search",
    "web_search_preview",
    "google_search",
    "googleSearch",
    "browser_search",
    "openrouter:web_search",
)
FETCH_TYPES = ("web_fetch", "url_context", "urlContext", "openrouter:web_fetch")
CODE_TYPES = ("code_execution", "codeExecution", "code_interpreter")
CALLER_DATA = ("file_search", "mcp")
COMMON_FIELDS = (
    "type",
    "name",
    "function",
    "cache_control",
    "allowed_domains",
    "blocked_domains",
    "max_uses",
)


def parse_search_options(options: dict[str, Any] | None) -> list[ServerTool]:
    """Return OpenAI's web search as a server tool, if the request has the field."""
    if options is None:
        return []
    place = as_dict(options.get("user_location"))
    search = WebSearch(
        user_location=parse_location(place.get("approximate")),
        search_context_size=as_str(options.get("search_context_size")),
    )
    return [ServerTool(origin=FORMAT, kind=WEB_SEARCH_FIELD, value=options, shared=search)]


def parse_server_tool(wire: dict[str, Any]) -> ServerTool:
    """Return an entry of `tools` that the client does not run.

    The type may be the name of the entry's only field, as in Google's declarations.
    """
    kind = as_str(wire.get("type")) or next(iter(wire), "tool")
    return ServerTool(
        origin=FORMAT,
        kind=kind,
        value=wire,
        shared=parse_shared_tool(wire, VERSION.sub("", kind)),
        unshared=tuple(
            name
            for name, value in wire.items()
            if name not in (*COMMON_FIELDS, kind) and value not in (None, False)
        ),
        is_caller_data=kind in CALLER_DATA,
    )


def parse_shared_tool(wire: dict[str, Any], kind: str) -> SharedTool | None:
    allowed, blocked = domains(wire.get("allowed_domains")), domains(wire.get("blocked_domains"))
    uses = parse_limit(wire.get("max_uses"))
    if kind in SEARCH_TYPES:
        return WebSearch(allowed_domains=allowed, blocked_domains=blocked, max_uses=uses)
    if kind in FETCH_TYPES:
        return WebFetch(allowed_domains=allowed, blocked_domains=blocked, max_uses=uses)
    return CodeExecution() if kind in CODE_TYPES else None


def render_server_tools(request: Request) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the server tools that are entries of `tools`, and those that are fields of the request."""
    entries: list[dict[str, Any]] = []
    fields: dict[str, Any] = {}
    for tool in request.tools:
        if not isinstance(tool, ServerTool):
            continue
        if tool.origin == FORMAT and tool.kind != WEB_SEARCH_FIELD:
            entries.append(dict(tool.value))
        elif isinstance(tool.shared, WebSearch):
            fields[WEB_SEARCH_FIELD] = render_search_options(tool.shared)
    return entries, fields


def render_search_options(search: WebSearch) -> dict[str, Any]:
    place = search.user_location
    location = {"type": "approximate", "approximate": render_location(place)} if place else None
    given = {"search_context_size": search.search_context_size, "user_location": location}
    return {name: value for name, value in given.items() if value}
