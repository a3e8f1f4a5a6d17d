"""Calls of OpenAI's own tools: how many a request allows, and how many an answer is billed for.

developers.openai.com/api/docs/guides/tools-web-search ("Output and citations": only searches are billed, pages opened are not),
.../tools-code-interpreter ("Containers"), and the `tool_usage` of an answer (docs/api-reference/responses/object).
"""

from typing import Any

from msgspec.structs import replace

from proxy.formats.neutral import Usage
from proxy.formats.server_tools import counted, limit_of, objects, stated_calls, tier_of

OF_THE_CLIENT = ("function", "custom", "namespace", "local_shell", "apply_patch", "computer", "computer_use_preview")
"""Tools whose calls the client answers itself."""
MARKS = (b'"web_search_call"', b'"file_search_call"', b'"code_interpreter_call"')
"""What stands in the output of an answer that called one of these tools."""


def kind_of(tool: dict[str, Any]) -> str:
    """`web_search` or `web_search_preview` whatever their date; a code interpreter by the memory of its container, if not 1 GB."""
    kind = tool.get("type")
    match kind, tool.get("container"):
        case str(), _ if kind.startswith("web_search"):
            return "web_search_preview" if "preview" in kind else "web_search"
        case "code_interpreter", {"memory_limit": "4g" | "16g" | "64g" as memory}:
            return f"code_interpreter_{memory}"
        case str(), _:
            return kind
        case _:
            return ""


def tool_limits(tools: Any, most: Any) -> dict[str, int]:
    """How often each of the provider's tools may be called; `max_tool_calls` holds for all of them together."""
    kinds = {kind_of(tool) for tool in objects(tools)} - set(OF_THE_CLIENT) - {""}
    return dict.fromkeys(kinds, limit_of(most))


def billed_calls(output: Any, tools: Any, tool_usage: Any) -> dict[str, int]:
    """The calls in an answer's output, by kind. `tools` are those that the answer repeats from its request."""
    offered = {kind_of(tool) for tool in objects(tools)}
    search = "web_search_preview" if "web_search_preview" in offered and "web_search" not in offered else "web_search"
    code = next((kind for kind in offered if kind.startswith("code_interpreter")), "code_interpreter")
    items = objects(output)
    kinds = [search if item.get("type") == "web_search_call" else "file_search" for item in items if is_search(item)]
    containers = {str(item.get("container_id")) for item in items if item.get("type") == "code_interpreter_call"}
    counts = counted([*kinds, *(code for _ in containers)])
    if isinstance(tool_usage, dict) and isinstance(web := tool_usage.get("web_search"), dict) and "num_requests" in web:
        counts.pop(search, None)
        counts |= stated_calls(**{search: web["num_requests"]})
    return counts


def is_search(item: dict[str, Any]) -> bool:
    match item:
        case {"type": "web_search_call", "action": {"type": str(action)}}:
            return action == "search"
        case {"type": "web_search_call" | "file_search_call"}:
            return True
        case _:
            return False


def with_services(usage: Usage, service_tier: Any, output: Any, tools: Any, tool_usage: Any) -> Usage:
    """What an answer is billed for beside its tokens."""
    return replace(usage, service_tier=tier_of(service_tier), tool_calls=billed_calls(output, tools, tool_usage))
