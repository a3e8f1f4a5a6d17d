"""Calls of typed tools and their results, parsed and rendered.

Sources: the SDK `openai` (types of items), and developers.openai.com/api/docs/guides: tools-shell,
tools-local-shell, tools-apply-patch, tools-computer-use, tools-tool-search. In other formats, a typed tool
becomes a function. Its arguments are the `action`, the `operation` or the `arguments` of the call.
"""

from typing import Any, Protocol

import msgspec
from msgspec.structs import replace

from proxy.formats.json_body import DECODE_ERRORS, as_dict, as_list, as_str, dict_items, encode
from proxy.formats.media import parse_data_url
from proxy.formats.neutral import File, Image, Text, ToolCall
from proxy.formats.openai_responses.wire import FORMAT
from proxy.formats.tools.names import flat_name

Item = dict[str, Any]
TOOL_OF_CALL = {
    "local_shell_call": "local_shell",
    "shell_call": "shell",
    "apply_patch_call": "apply_patch",
    "computer_call": "computer",
    "tool_search_call": "tool_search",
}
"""Maps the type of a call to its tool. The type of a result is the type of its call with `_output`."""
OUTPUT_TYPES = (
    *(f"{call}_output" for call in TOOL_OF_CALL if call != "tool_search_call"),
    "tool_search_output",
)
ID_PREFIXES = {
    "local_shell": "lsh",
    "shell": "sh",
    "apply_patch": "apc",
    "computer": "cu",
    "computer_use_preview": "cu",
    "tool_search": "tsc",
}
Content = tuple[Text | Image | File, ...]


# Reading ------------------------------------------------------------------------------------------


def runs_at_client(item: Item) -> bool:
    """Return whether the client runs a call, or has run the call of a result.

    OpenAI runs shells in its containers. It also runs searches for tools, unless the request says that the
    client does.
    """
    match item:
        case {"type": "shell_call", "environment": {"type": "container_reference"}}:
            return False
        case {"type": "tool_search_call" | "tool_search_output"}:
            return item.get("execution") == "client"
        case _:
            return item.get("type") in TOOL_OF_CALL or item.get("type") in OUTPUT_TYPES


def call_arguments(item: Item) -> str:
    """Return the arguments of a call as the JSON arguments of the function that replaces its tool."""
    match item.get("type"):
        case "apply_patch_call":
            value: Any = {"operation": as_dict(item.get("operation"))}
        case "computer_call" if item.get("actions"):
            value = {"actions": dict_items(item.get("actions"))}
        case "computer_call":
            value = {"action": as_dict(item.get("action"))}
        case "tool_search_call":
            value = item.get("arguments")
        case _:
            action = as_dict(item.get("action")).items()
            value = {name: given for name, given in action if name != "type" and given not in (None, {})}
    return value if isinstance(value, str) else encode(value).decode()


def parse_typed_output(item: Item) -> tuple[Content, bool]:
    """Return the content of a result, and whether the call failed."""
    output = item.get("output")
    match item.get("type"):
        case "shell_call_output":
            return (Text(text="\n".join(map(chunk_text, dict_items(output)))),), False
        case "apply_patch_call_output":
            failed = item.get("status") == "failed"
            return (Text(text=as_str(output) or as_str(item.get("status")) or "completed"),), failed
        case "computer_call_output":
            return parse_screenshot(as_dict(output)), False
        case "tool_search_output":
            names = [name for tool in dict_items(item.get("tools")) for name in names_of(tool)]
            return (Text(text=f"Tools that can be used now: {', '.join(names) or 'none'}."),), False
        case _:
            return (Text(text=output if isinstance(output, str) else encode(output).decode()),), False


def chunk_text(chunk: Item) -> str:
    """Return the output of a command and, if it failed, its exit code or its timeout."""
    errors, outcome = as_str(chunk.get("stderr")), as_dict(chunk.get("outcome"))
    code = outcome.get("exit_code")
    ended = (
        "The command timed out." if outcome.get("type") == "timeout" else f"Exit code: {code}" if code else ""
    )
    return "\n".join(filter(None, (as_str(chunk.get("stdout")), errors and f"stderr:\n{errors}", ended)))


def parse_screenshot(output: Item) -> Content:
    url, file_id = as_str(output.get("image_url")), as_str(output.get("file_id"))
    if embedded := parse_data_url(url):
        return (Image(media_type=embedded.media_type, data=embedded.data),)
    if url:
        return (Image(url=url),)
    return (File(media_type="image/*", file_id=file_id, origin=FORMAT),) if file_id else ()


def names_of(tool: Item) -> list[str]:
    """Return the name of a tool, or the names of the tools in a namespace."""
    name = as_str(tool.get("name"))
    members = [flat_name(name, as_str(member.get("name"))) for member in dict_items(tool.get("tools"))]
    return members or [name or as_str(tool.get("type"))]


# Writing ------------------------------------------------------------------------------------------


def render_typed_call(call: ToolCall, kind: str) -> Item:
    """Render a call of a function as the call of the typed tool that the function replaces."""
    given = parse_arguments(call.arguments)
    match kind:
        case "local_shell":
            return {"type": "local_shell_call", "call_id": call.id, "action": local_shell_action(given)}
        case "shell":
            action = {"commands": commands(given.get("commands") or given.get("command"))}
            limits = {name: given.get(name) for name in ("timeout_ms", "max_output_length")}
            place = {"environment": {"type": "local"}}
            return {"type": "shell_call", "call_id": call.id, "action": action | limits, **place}
        case "apply_patch":
            operation = as_dict(given.get("operation")) or given
            return {"type": "apply_patch_call", "call_id": call.id, "operation": operation}
        case "tool_search":
            return {"type": "tool_search_call", "call_id": call.id, "execution": "client", "arguments": given}
        case _:
            return {"type": "computer_call", "call_id": call.id, **computer_actions(given, kind)}


def parse_arguments(arguments: str) -> Item:
    """Return the decoded arguments; empty if they are not a JSON object."""
    try:
        return as_dict(msgspec.json.decode(arguments or "{}"))
    except DECODE_ERRORS:
        return {}


def local_shell_action(given: Item) -> Item:
    """Return an action with the fields that the format requires.

    A command that is one text, and not a list, is run by a shell.
    """
    command = given.get("command")
    written = ["bash", "-lc", command] if isinstance(command, str) else commands(command)
    others = {name: given.get(name) for name in ("timeout_ms", "user", "working_directory")}
    return {"type": "exec", "command": written, "env": as_dict(given.get("env")), **others}


def commands(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [item for item in as_list(value) if isinstance(item, str)]


def computer_actions(given: Item, kind: str) -> Item:
    """Return the actions of a computer call.

    The older tool, `computer_use_preview`, accepts only one action.
    """
    listed = dict_items(given.get("actions")) or [as_dict(given.get("action")) or given]
    actions = {"action": listed[0]} if kind == "computer_use_preview" else {"actions": listed}
    return {**actions, "pending_safety_checks": []}


class ItemWriter(Protocol):
    """Writes complete items to a stream."""

    def write_item(self, item: Item) -> None:
        """Write a complete item."""


class RenderCall(Protocol):
    """Renders a call as items. If the call has a signature, an item with it comes first."""

    def __call__(self, call: ToolCall, /) -> list[Item]: ...


class TypedCallEncoder:
    """Encodes a call of a typed tool.

    It writes the call when the arguments are complete, because they become fields of the item.
    """

    def __init__(self, writer: ItemWriter, call: ToolCall, render: RenderCall) -> None:
        self.writer, self.call, self.render = writer, call, render

    def write(self, text: str, _logprobs: tuple[Any, ...] = ()) -> None:
        self.call = replace(self.call, arguments=self.call.arguments + text)

    def add_signature(self, signature: str) -> None:
        self.call = replace(self.call, signature=(self.call.signature or "") + signature)

    def end(self) -> None:
        for item in self.render(self.call):
            self.writer.write_item(item)
