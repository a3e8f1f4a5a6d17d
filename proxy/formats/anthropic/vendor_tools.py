"""Anthropic's typed tools, which the client runs, and server tools, which Anthropic runs.

Sources: the SDK `anthropic` (types of `tools`), and platform.claude.com/docs, "Tool use": "Bash tool", "Text
editor tool", "Memory tool", "Computer use tool", "Web search tool", "Web fetch tool", "Code execution tool".
Anthropic's models already know the schemas of the first four tools. The documentation lists them as
parameters. Other models get these tools as functions with these parameters.
"""

from collections.abc import Iterator

from proxy.formats.anthropic.toolsets import TOOLSETS
from proxy.formats.anthropic.wire import FORMAT
from proxy.formats.json_body import as_dict, as_str
from proxy.formats.neutral import (
    CodeExecution,
    ServerTool,
    SharedTool,
    Tool,
    VendorTool,
    WebFetch,
    WebSearch,
)
from proxy.formats.tools.names import TYPED, FlatNames
from proxy.formats.tools.offers import VERSION
from proxy.formats.tools.schemas import Schema, choice, integer, integers, parameters, text
from proxy.formats.tools.settings import domains, parse_limit, parse_location, render_location

WEB_SEARCH_TYPE, WEB_FETCH_TYPE, CODE_EXECUTION_TYPE = (
    "web_search_20250305",
    "web_fetch_20250910",
    "code_execution_20250825",
)
"""Versions of the server tools that every model with server tools accepts.

Later versions require the newest models ("Web search tool", "Dynamic filtering").
"""
SHARED_FIELDS = (
    "type",
    "name",
    "cache_control",
    "allowed_domains",
    "blocked_domains",
    "max_uses",
    "max_content_tokens",
    "user_location",
)
OLD_EDITOR_TYPES = ("text_editor_20241022", "text_editor_20250124")
"""Versions of the text editor that can undo, and that name the inserted text `new_str`."""
FIRST_COMPUTER_TYPE, ZOOM_COMPUTER_TYPE = "computer_20241022", "computer_20251124"
FIRST_ACTIONS = (
    "key",
    "type",
    "mouse_move",
    "left_click",
    "left_click_drag",
    "right_click",
    "middle_click",
    "double_click",
    "screenshot",
    "cursor_position",
)
LATER_ACTIONS = ("hold_key", "left_mouse_down", "left_mouse_up", "triple_click", "scroll", "wait")


# Tools of the client ------------------------------------------------------------------------------


def bash_tool(_tool: Schema) -> tuple[str, Schema]:
    return "Run a command in a persistent bash session.", parameters(
        command=text("The command to run. Required unless the session restarts."),
        restart={"type": "boolean", "description": "True to restart the session."},
    )


def text_editor_tool(tool: Schema) -> tuple[str, Schema]:
    is_old = tool.get("type") in OLD_EDITOR_TYPES
    commands = ["view", "create", "str_replace", "insert", *(["undo_edit"] if is_old else [])]
    inserted = {} if is_old else {"insert_text": text("The text to insert, for insert.")}
    new = "The new text, for str_replace and insert." if is_old else "The new text, for str_replace."
    schema = parameters(
        "command",
        "path",
        command=choice(*commands),
        path=text("The file, or for view also a directory."),
        view_range=integers(2, "First and last line, from 1, for view; -1 is the end of the file."),
        file_text=text("The content of the new file, for create."),
        old_str=text("The text to replace, exactly as it is, for str_replace."),
        new_str=text(new),
        insert_line=integer("The line after which to insert, 0 for the start of the file, for insert."),
        **inserted,
    )
    return "View, create and edit text files.", schema


def memory_tool(_tool: Schema) -> tuple[str, Schema]:
    schema = parameters(
        "command",
        command=choice("view", "create", "str_replace", "insert", "delete", "rename"),
        path=text("The file or directory below /memories, for all commands but rename."),
        view_range=integers(2, "First and last line, from 1, for view."),
        file_text=text("The content of the new file, for create."),
        old_str=text("The text to replace, for str_replace."),
        new_str=text("The new text, for str_replace."),
        insert_line=integer("The line after which to insert, for insert."),
        insert_text=text("The text to insert, for insert."),
        old_path=text("The present path, for rename."),
        new_path=text("The new path, for rename."),
    )
    return (
        "Keep notes between conversations, in files below /memories. View the directory before other work.",
        schema,
    )


def computer_tool(tool: Schema) -> tuple[str, Schema]:
    kind, can_zoom = tool.get("type"), tool.get("type") == ZOOM_COMPUTER_TYPE and tool.get("enable_zoom")
    actions = FIRST_ACTIONS + (LATER_ACTIONS if kind != FIRST_COMPUTER_TYPE else ())
    size = f"{tool.get('display_width_px')} x {tool.get('display_height_px')}"
    later = {
        "scroll_direction": choice("up", "down", "left", "right"),
        "scroll_amount": integer("Clicks of the scroll wheel, for scroll."),
        "duration": {"type": "number", "description": "Seconds, for hold_key and wait."},
        "start_coordinate": integers(2, "x and y where to begin, for left_click_drag."),
    }
    zoom = {"region": integers(4, "x0, y0, x1 and y1 of the part to show, for zoom.")} if can_zoom else {}
    schema = parameters(
        "action",
        action=choice(*actions, *(["zoom"] if can_zoom else [])),
        coordinate=integers(2, "x and y in pixels, for actions of the mouse."),
        text=text("The text for type, or keys such as ctrl+s for key and hold_key."),
        **(later if kind != FIRST_COMPUTER_TYPE else {}),
        **zoom,
    )
    return f"Use a computer by its screen, mouse and keyboard. The display has {size} pixels.", schema


CLIENT_TOOLS = {
    "bash": bash_tool,
    "text_editor": text_editor_tool,
    "memory": memory_tool,
    "computer": computer_tool,
}
"""Types of tools that the client runs, without their dates, each with its description as a function."""


def parse_client_tool(tool: Schema, kind: str, names: FlatNames) -> Tool:
    """Return a tool that the client runs as a function with its published parameters."""
    description, schema = CLIENT_TOOLS[VERSION.sub("", kind)](tool)
    limit = tool.get("max_characters")
    return Tool(
        name=names.add(TYPED, as_str(tool.get("name")) or VERSION.sub("", kind)),
        description=f"{description} A view shows at most {limit} characters." if limit else description,
        schema=schema,
        cache=parse_cache(tool),
        vendor=VendorTool(origin=FORMAT, kind=kind, value=tool),
    )


def parse_toolset(tool: Schema, kind: str, names: FlatNames) -> Iterator[Tool]:
    """Yield the enabled members of a toolset as functions; `configs` disables members by name."""
    group, configs = VERSION.sub("", kind).removesuffix("_toolset"), as_dict(tool.get("configs"))
    for name, (description, schema) in TOOLSETS[group].items():
        if as_dict(configs.get(name)).get("enabled") is not False:
            yield Tool(
                name=names.add(group, name),
                description=description,
                schema=schema,
                cache=parse_cache(tool),
                vendor=VendorTool(origin=FORMAT, kind=kind, value=tool, group=group, name=name),
            )


def parse_cache(tool: Schema) -> str | None:
    mark = tool.get("cache_control")
    return (as_str(mark.get("ttl")) or "5m") if isinstance(mark, dict) else None


# Tools of the provider ----------------------------------------------------------------------------


def parse_server_tool(tool: Schema, kind: str) -> ServerTool:
    """Return a tool that Anthropic runs.

    Results of an MCP server are data of the caller. Tools of unknown types are treated as server tools.
    """
    return ServerTool(
        origin=FORMAT,
        kind=kind,
        value=tool,
        shared=parse_shared_tool(tool, VERSION.sub("", kind)),
        unshared=tuple(
            name for name, value in tool.items() if name not in SHARED_FIELDS and value not in (None, False)
        ),
        is_caller_data=kind.startswith("mcp"),
    )


def parse_shared_tool(tool: Schema, kind: str) -> SharedTool | None:
    allowed, blocked = domains(tool.get("allowed_domains")), domains(tool.get("blocked_domains"))
    uses = parse_limit(tool.get("max_uses"))
    match kind:
        case "web_search":
            place = parse_location(tool.get("user_location"))
            return WebSearch(
                allowed_domains=allowed, blocked_domains=blocked, max_uses=uses, user_location=place
            )
        case "web_fetch":
            tokens = parse_limit(tool.get("max_content_tokens"))
            return WebFetch(
                allowed_domains=allowed, blocked_domains=blocked, max_uses=uses, max_content_tokens=tokens
            )
        case "code_execution":
            return CodeExecution(max_uses=uses)
        case _:
            return None


def render_shared_tool(shared: SharedTool) -> Schema:
    """Return the declaration of Anthropic's counterpart of a server tool."""
    match shared:
        case WebSearch():
            place = shared.user_location
            location = {"user_location": {"type": "approximate", **render_location(place)}} if place else {}
            return {"type": WEB_SEARCH_TYPE, "name": shared.kind, **render_limits(shared), **location}
        case WebFetch():
            tokens = shared.max_content_tokens
            limit = {"max_content_tokens": tokens} if tokens else {}
            return {"type": WEB_FETCH_TYPE, "name": shared.kind, **render_limits(shared), **limit}
        case CodeExecution():
            return {"type": CODE_EXECUTION_TYPE, "name": shared.kind}


def render_limits(shared: WebSearch | WebFetch) -> Schema:
    """Return the lists of domains and the limit of calls. Only one of the two lists may be sent."""
    blocked = () if shared.allowed_domains else shared.blocked_domains
    given = {
        "allowed_domains": list(shared.allowed_domains),
        "blocked_domains": list(blocked),
        "max_uses": shared.max_uses,
    }
    return {name: value for name, value in given.items() if value}
