"""Former place of the custom tools of `proxy/formats/tool_calls.py`."""

from proxy.formats.tool_calls import FREE_TEXT_SCHEMA, as_function_call, as_function_tool

__all__ = ["FREE_TEXT_SCHEMA", "as_function_call", "as_function_tool"]
