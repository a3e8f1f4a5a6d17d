"""OpenAI's typed tools, which the client runs, and server tools, which OpenAI runs.

Sources: the SDK `openai` (types of `tools`), and developers.openai.com/api/docs/guides: tools-shell,
tools-local-shell, tools-apply-patch, tools-computer-use, tools-tool-search, tools-web-search,
tools-code-interpreter. The parameters of the functions that replace typed tools match the arguments in
`typed_calls.py`.
"""

from proxy.formats.json_body import as_dict, as_str, dict_items
from proxy.formats.neutral import (
    CodeExecution,
    ServerTool,
    SharedTool,
    Tool,
    UnsupportedFeature,
    VendorTool,
    WebFetch,
    WebSearch,
)
from proxy.formats.openai_responses.wire import FORMAT
from proxy.formats.tools.names import TYPED, FlatNames
from proxy.formats.tools.offers import VERSION
from proxy.formats.tools.schemas import Schema, choice, integer, parameters, text
from proxy.formats.tools.settings import domains, parse_location, render_location

STRING = text()
INTEGER = integer()
STRINGS: Schema = {"type": "array", "items": STRING}
CALLER_DATA = ("file_search", "mcp")
SEARCH_DEFAULTS = {"external_web_access": True}
SEARCH_FIELDS = ("type", "filters", "user_location", "search_context_size")


# Tools of the client ------------------------------------------------------------------------------

LOCAL_SHELL = parameters(
    "command",
    command={**STRINGS, "description": "The program and its arguments."},
    working_directory=STRING,
    timeout_ms=INTEGER,
    env={"type": "object", "additionalProperties": STRING},
)
SHELL = parameters(
    "commands",
    commands={**STRINGS, "description": "Commands to run one after the other."},
    timeout_ms=INTEGER,
    max_output_length=integer("Most characters of output to return."),
)
APPLY_PATCH = parameters(
    "operation",
    operation=parameters(
        "type",
        "path",
        type=choice("create_file", "update_file", "delete_file"),
        path=text("The file, relative to the root of the workspace."),
        diff={
            **STRING,
            "description": "The change in the V4A format: hunks that begin with @@ and, if needed, a line of "
            "context; then lines that begin with a space, - or +. In a new file all lines begin with +. "
            "Not for delete_file.",
        },
    ),
)
ACTION_TYPES = ["click", "double_click", "drag", "keypress", "move", "screenshot", "scroll", "type", "wait"]
ACTION = parameters(
    "type",
    type=choice(*ACTION_TYPES),
    x=INTEGER,
    y=INTEGER,
    button=choice("left", "right", "wheel", "back", "forward"),
    keys={**STRINGS, "description": "Keys to press, or to hold during an action of the mouse."},
    text=text("The text for type."),
    scroll_x=INTEGER,
    scroll_y=INTEGER,
    path={"type": "array", "items": parameters("x", "y", x=INTEGER, y=INTEGER), "description": "For drag."},
)
ACTIONS = parameters("actions", actions={"type": "array", "items": ACTION})
ONE_ACTION = parameters("action", action=ACTION)
COMPUTER_TEXT = "Use a computer by its screen, mouse and keyboard. The result is a screenshot."
CLIENT_TOOLS: dict[str, tuple[str, str, Schema]] = {
    "local_shell": ("local_shell", "Run a command on the user's computer.", LOCAL_SHELL),
    "shell": ("shell", "Run shell commands on the user's computer.", SHELL),
    "apply_patch": ("apply_patch", "Create, update or delete a file by a diff.", APPLY_PATCH),
    "computer": ("computer", COMPUTER_TEXT, ACTIONS),
    "computer_use_preview": ("computer", COMPUTER_TEXT, ONE_ACTION),
    "tool_search": (
        "tool_search",
        "Find tools that can be used after this.",
        parameters("query", query=STRING),
    ),
}
"""The typed tools, each with the name, description and parameters of the function that replaces it."""


def runs_at_client(tool: Schema) -> bool:
    """Return whether the client runs a tool.

    The client runs a shell outside of OpenAI's containers, and a tool search if the declaration says so.
    """
    match tool:
        case {"type": "shell"}:
            return not as_str(as_dict(tool.get("environment")).get("type")).startswith("container")
        case {"type": "tool_search"}:
            return tool.get("execution") == "client"
        case _:
            return as_str(tool.get("type")) in CLIENT_TOOLS


def parse_client_tool(tool: Schema, names: FlatNames) -> Tool:
    """Return the function that replaces a typed tool."""
    kind = as_str(tool.get("type"))
    name, description, schema = CLIENT_TOOLS[kind]
    given = as_dict(tool.get("parameters"))
    return Tool(
        name=names.add(TYPED, name),
        description="\n\n".join(
            filter(None, (as_str(tool.get("description")) or description, details(tool)))
        ),
        schema=given or schema,
        vendor=VendorTool(origin=FORMAT, kind=kind, value=tool),
    )


def details(tool: Schema) -> str:
    """Return the information for the model in a declaration: the size of the display, or the skills."""
    if width := tool.get("display_width"):
        return f"The display has {width} x {tool.get('display_height')} pixels."
    skills = dict_items(as_dict(tool.get("environment")).get("skills"))
    lines = [f"- {skill.get('name')} ({skill.get('path')}): {skill.get('description')}" for skill in skills]
    return "\n".join(["Skills, each in its own directory:", *lines]) if lines else ""


# Tools of the provider ----------------------------------------------------------------------------


def parse_server_tool(tool: Schema) -> ServerTool:
    """Return a tool that OpenAI runs. Tools of unknown types are assumed to be server tools."""
    kind = as_str(tool.get("type")) or "tool"
    shared = parse_shared_tool(tool, VERSION.sub("", kind))
    return ServerTool(
        origin=FORMAT,
        kind=kind,
        value=tool,
        shared=shared,
        unshared=unshared_settings(tool) if isinstance(shared, WebSearch) else (),
        is_caller_data=kind in CALLER_DATA or has_files(tool),
    )


def unshared_settings(search: Schema) -> tuple[str, ...]:
    """Return the settings that only OpenAI's web search has and that do not have their default values."""
    return tuple(
        name
        for name, value in search.items()
        if name not in SEARCH_FIELDS and value is not None and value != SEARCH_DEFAULTS.get(name)
    )


def has_files(tool: Schema) -> bool:
    """Return whether a tool uses an existing container or files of the caller."""
    container = tool.get("container") or tool.get("environment")
    match container:
        case str() | {"type": "container_reference"}:
            return True
        case dict():
            return bool(container.get("file_ids"))
        case _:
            return False


def parse_shared_tool(tool: Schema, kind: str) -> SharedTool | None:
    match kind:
        case "web_search" | "web_search_preview":
            filters = as_dict(tool.get("filters"))
            return WebSearch(
                allowed_domains=domains(filters.get("allowed_domains")),
                blocked_domains=domains(filters.get("blocked_domains")),
                user_location=parse_location(tool.get("user_location")),
                search_context_size=as_str(tool.get("search_context_size")),
            )
        case "code_interpreter" | "shell":
            return CodeExecution()
        case _:
            return None


def render_shared_tool(shared: SharedTool) -> Schema:
    """Render OpenAI's counterpart of a server tool. Raises UnsupportedFeature."""
    match shared:
        case WebSearch():
            place = shared.user_location
            filters = {"allowed_domains": list(shared.allowed_domains)} if shared.allowed_domains else None
            given = {
                "filters": filters,
                "user_location": {"type": "approximate", **render_location(place)} if place else None,
                "search_context_size": shared.search_context_size,
            }
            return {"type": shared.kind, **{name: value for name, value in given.items() if value}}
        case CodeExecution():
            return {"type": "code_interpreter", "container": {"type": "auto"}}
        case WebFetch():
            raise UnsupportedFeature("The Responses API has no tool that fetches pages.", "tools")
