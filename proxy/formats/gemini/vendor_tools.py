"""Google's own tools: server tools, which Google runs, and computer use, which the client runs.

Sources: the SDK `google-genai` (`types.Tool`), and ai.google.dev/gemini-api/docs: google-search, url-context,
code-execution, and computer-use ("Supported UI actions": the predefined functions and their arguments).
"""

from collections.abc import Iterator
from typing import Any

from proxy.formats.gemini.wire import FORMAT
from proxy.formats.json_body import as_dict, as_list
from proxy.formats.neutral import (
    CodeExecution,
    ServerTool,
    SharedTool,
    Tool,
    VendorTool,
    WebFetch,
    WebSearch,
)
from proxy.formats.tools.schemas import Schema, choice, integer, parameters, text
from proxy.formats.tools.settings import domains

COMPUTER_USE = "computerUse"
CALLER_DATA = ("cachedContent", "fileSearch", "mcpServers", "retrieval")
"""Tools that refer to data of the caller. Other providers do not have this data."""
SEARCH_FIELDS = (
    "googleSearch",
    "googleSearchRetrieval",
    "enterpriseWebSearch",
    "parallelAiSearch",
    "exaAiSearch",
)
STRING = text()
BOOLEAN: Schema = {"type": "boolean"}
PLACE = integer("From 0 to 999, whatever the size of the screen.")
DIRECTION = choice("up", "down", "left", "right")


def action(description: str, *required: str, **properties: Schema) -> tuple[str, Schema]:
    return description, parameters(*required, **properties)


def at_point(description: str, *required: str, **properties: Schema) -> tuple[str, Schema]:
    return action(description, "y", "x", *required, y=PLACE, x=PLACE, **properties)


COMPUTER_ACTIONS: dict[str, tuple[str, Schema]] = {
    "open_web_browser": action("Open the browser."),
    "wait_5_seconds": action("Wait for five seconds."),
    "go_back": action("Go back in the history of the browser."),
    "go_forward": action("Go forward in the history of the browser."),
    "search": action("Open the start page of the default search engine."),
    "navigate": action("Open a URL.", "url", url=STRING),
    "click_at": at_point("Click at a point."),
    "hover_at": at_point("Move the cursor to a point."),
    "type_text_at": at_point(
        "Type a text at a point. By default the field is cleared before, and Enter is pressed after it.",
        "text",
        text=STRING,
        press_enter=BOOLEAN,
        clear_before_typing=BOOLEAN,
    ),
    "key_combination": action("Press keys, such as control+c.", "keys", keys=STRING),
    "scroll_document": action("Scroll the page.", "direction", direction=DIRECTION),
    "scroll_at": at_point(
        "Scroll at a point, by a magnitude of up to 999.",
        "direction",
        direction=DIRECTION,
        magnitude=integer(),
    ),
    "drag_and_drop": at_point(
        "Drag from a point to another one.",
        "destination_y",
        "destination_x",
        destination_y=PLACE,
        destination_x=PLACE,
    ),
}


def parse_computer(settings: Any) -> Iterator[Tool]:
    """Yield Google's predefined functions without those that the client excludes."""
    excluded = as_list(as_dict(settings).get("excludedPredefinedFunctions"))
    vendor = VendorTool(origin=FORMAT, kind=COMPUTER_USE, value={COMPUTER_USE: settings})
    for name, (description, schema) in COMPUTER_ACTIONS.items():
        if name not in excluded:
            yield Tool(name=name, description=description, schema=schema, vendor=vendor)


def parse_server_tool(field: str, value: Any) -> ServerTool:
    """Return a tool that Google runs."""
    settings = {name: setting for name, setting in as_dict(value).items() if setting not in (None, {}, [])}
    return ServerTool(
        origin=FORMAT,
        kind=field,
        value={field: value},
        shared=parse_shared_tool(field, settings),
        unshared=tuple(name for name in settings if name != "excludeDomains"),
        is_caller_data=field in CALLER_DATA,
    )


def parse_shared_tool(field: str, settings: Schema) -> SharedTool | None:
    if field in SEARCH_FIELDS:
        return WebSearch(blocked_domains=domains(settings.get("excludeDomains")))
    if field == "urlContext":
        return WebFetch()
    return CodeExecution() if field == "codeExecution" else None


def render_shared_tool(shared: SharedTool) -> Schema:
    """Return Google's counterpart of a server tool. The Gemini API has no settings for it."""
    match shared:
        case WebSearch():
            return {"googleSearch": {}}
        case WebFetch():
            return {"urlContext": {}}
        case CodeExecution():
            return {"codeExecution": {}}
