"""Custom tools, which take free text, for providers that know functions only: a function with the one parameter `input`."""

from typing import Any

from msgspec.structs import replace

from proxy.formats.json_body import encode
from proxy.formats.neutral import Tool, ToolCall

FREE_TEXT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"input": {"type": "string"}},
    "required": ["input"],
}


def as_function_tool(tool: Tool) -> Tool:
    return replace(tool, custom=False, schema=FREE_TEXT_SCHEMA, strict=None) if tool.custom else tool


def as_function_call(call: ToolCall) -> ToolCall:
    return (
        replace(call, custom=False, arguments=encode({"input": call.arguments}).decode())
        if call.custom
        else call
    )
