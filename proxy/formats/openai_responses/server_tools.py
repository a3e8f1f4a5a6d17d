"""Calls of OpenAI's server tools: how many a request allows, and how many a response is billed for.

Sources: developers.openai.com/api/docs/guides/tools-web-search ("Output and citations": only searches are
billed, opened pages are not), .../tools-code-interpreter ("Containers"), .../tools-shell ("Hosted shell"),
and the `tool_usage` of a response (docs/api-reference/responses/object).
"""

from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from proxy.formats.json_body import as_str, dict_items
from proxy.formats.metering.billable import count_kinds, parse_tier, reported_calls, tool_call_limit
from proxy.formats.neutral import Usage
from proxy.formats.openai_responses import image_generation

CLIENT_TOOLS = (
    "function",
    "custom",
    "namespace",
    "local_shell",
    "apply_patch",
    "computer",
    "computer_use_preview",
)
"""Types of tools that the client runs.

The client also runs a shell outside of OpenAI's containers. `billable_kind` returns no kind for such a shell.
"""
CALL_MARKERS = (
    b'"web_search_call"',
    b'"file_search_call"',
    b'"code_interpreter_call"',
    b'"shell_call"',
    b'"image_generation_call"',
)
"""Byte strings that the output of a response contains if one of these tools was called."""
CONTAINER_TOOLS = {"code_interpreter_call": "code_interpreter", "shell_call": "shell"}
"""Maps the type of a call to its tool, for tools that are billed per container and not per call."""
MAX_MEMORY_GB = 64
DEFAULT_MAX_IMAGES = 4
"""The maximum number of images that is assumed for a request without `max_tool_calls`.

An image costs as much as a hundred searches.
"""


def billable_kind(tool: dict[str, Any]) -> str:
    """Return the kind under which a tool is billed, without the date of its version.

    The kind of a container tool ends with the memory of the container (`_4g`), unless it has the default of 1
    GB.
    """
    kind = tool.get("type")
    match kind:
        case str() if kind.startswith("web_search"):
            return "web_search_preview" if "preview" in kind else "web_search"
        case "code_interpreter":
            return f"{kind}{memory_suffix(tool.get('container'))}"
        case "shell":
            place = tool.get("environment")
            hosted = isinstance(place, dict) and str(place.get("type")).startswith("container")
            return f"{kind}{memory_suffix(place)}" if hosted else ""
        case str():
            return kind
        case _:
            return ""


def billed_tools(tools: Any) -> list[dict[str, Any]]:
    """Return the tools that the provider runs."""
    return [tool for tool in dict_items(tools) if billable_kind(tool) not in ("", *CLIENT_TOOLS)]


def memory_gb(kind: str) -> int:
    """Return the memory of a container in a kind such as `shell_4g`. An unreadable size is the largest."""
    size = kind.rpartition("_")[2].removesuffix("g")
    if kind in CONTAINER_TOOLS.values():
        return 1
    return int(size) if size.isdecimal() else MAX_MEMORY_GB


def memory_suffix(container: Any) -> str:
    match container:
        case {"memory_limit": None | "1g"}:
            return ""
        case {"memory_limit": memory}:
            return f"_{memory}"
        case _:
            return ""


def max_billable_extras(tools: Any, max_tool_calls: Any) -> dict[str, int]:
    """Return how often each server tool may be called.

    `max_tool_calls` limits all calls together. Any kind could use all of it, so each kind gets the whole
    limit. A tool whose name is not known counts too.
    """
    kinds = {billable_kind(tool) for tool in dict_items(tools)} - set(CLIENT_TOOLS) - {""}
    limits = dict.fromkeys(kinds, tool_call_limit(max_tool_calls))
    if image_generation.TOOL_TYPE in limits:
        limits[image_generation.TOOL_TYPE] = (
            DEFAULT_MAX_IMAGES if max_tool_calls is None else limits[image_generation.TOOL_TYPE]
        )
        limits |= image_generation.max_usage(
            image_generation.find_tool(tools), limits[image_generation.TOOL_TYPE]
        )
    return limits


def billable_calls(output: Any, tools: Any, tool_usage: Any) -> dict[str, int]:
    """Return the calls in a response's output, by kind.

    `tools` are the tools of the request, and the tools that the response repeats. A call does not name its
    tool, so it counts for the most expensive one that may have been called.
    """
    offered = {billable_kind(tool) for tool in dict_items(tools)}
    search = "web_search_preview" if "web_search_preview" in offered else "web_search"
    items = dict_items(output)
    kinds = [
        search if item.get("type") == "web_search_call" else "file_search"
        for item in items
        if is_billed_search(item)
    ]
    counts = count_kinds([*kinds, *container_kinds(items, offered)]) | image_generation.image_usage(
        output, tools, tool_usage
    )
    if (
        isinstance(tool_usage, dict)
        and isinstance(web := tool_usage.get("web_search"), dict)
        and "num_requests" in web
    ):
        counts.pop(search, None)
        counts |= reported_calls(**{search: web["num_requests"]})
    return counts


def container_kinds(items: Iterable[dict[str, Any]], declared_kinds: set[str]) -> list[str]:
    """Return one entry for each container in which calls ran: the declared kind with the most memory."""
    found = {
        (tool, container_id(item)) for item in items if (tool := CONTAINER_TOOLS.get(str(item.get("type"))))
    }
    return [
        max((kind for kind in declared_kinds if kind.startswith(tool)), key=memory_gb, default=tool)
        for tool, container in found
        if container is not None
    ]


def container_id(item: dict[str, Any]) -> str | None:
    """Return the id of a call's container, empty if it has none; None for a shell that the client runs."""
    match item:
        case {"type": "shell_call", "environment": {"container_id": container}}:
            return as_str(container)
        case {"type": "shell_call"}:
            return None
        case _:
            return as_str(item.get("container_id"))


def is_billed_search(item: dict[str, Any]) -> bool:
    match item:
        case {"type": "web_search_call", "action": {"type": str(action)}}:
            return action == "search"
        case {"type": "web_search_call" | "file_search_call"}:
            return True
        case _:
            return False


def with_billable_extras(usage: Usage, service_tier: Any, output: Any, tools: Any, tool_usage: Any) -> Usage:
    """Add the service tier and the billed calls to the usage of a response."""
    return replace(
        usage,
        service_tier=parse_tier(service_tier),
        billable_extras=billable_calls(output, tools, tool_usage),
    )
