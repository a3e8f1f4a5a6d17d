"""Rules of OpenAI's Chat Completions, and of compatible servers, for conversations.

Sources: platform.openai.com/docs/api-reference/chat/create, and the error messages of the API.
"""

import json
from collections.abc import Iterator
from typing import Any

from tests.support.strict_provider.agent_script import ANY_TOOL, Conversation, Tool
from tests.support.strict_provider.content import text_of, unknown_fields
from tests.support.strict_provider.gemini_rules import is_valid

Json = dict[str, Any]

MAX_CALL_ID = 40
MESSAGE_FIELDS = {
    "system": {"role", "content", "name"},
    "developer": {"role", "content", "name"},
    "user": {"role", "content", "name"},
    "assistant": {
        "role",
        "content",
        "name",
        "tool_calls",
        "refusal",
        "audio",
        "function_call",
        "annotations",
    },
    "tool": {"role", "content", "tool_call_id"},
}
CONTENT_TYPES = {
    "user": {"text", "image_url", "input_audio", "file"},
    "assistant": {"text", "refusal"},
}
REASONING_FIELDS = {"reasoning_content", "reasoning_signature"}
CALL_FIELDS = {"id", "type", "function", "custom"}


def violations(body: Json, knows_reasoning: bool = False) -> Iterator[str]:
    """Yield the reasons for which OpenAI, or a server that returns reasoning, would reject a request."""
    messages = body.get("messages") or []
    if not messages:
        yield "Invalid 'messages': empty array. Expected an array with minimum length 1."
    for index, message in enumerate(messages):
        known = {name: value for name, value in message.items() if name not in REASONING_FIELDS}
        yield from message_violations(f"messages[{index}]", known if knows_reasoning else message)
    yield from order_violations(messages)
    yield from tool_violations(body)


def message_violations(place: str, message: Json) -> Iterator[str]:
    role = message.get("role", "")
    if role not in MESSAGE_FIELDS:
        yield f"Invalid value: '{role}'. {place}.role"
        return
    yield from unknown_fields(place, message, MESSAGE_FIELDS[role])
    yield from content_violations(place, role, message)
    calls = message.get("tool_calls")
    if calls == []:
        yield f"Invalid '{place}.tool_calls': empty array."
    for index, call in enumerate(calls or ()):
        yield from call_violations(f"{place}.tool_calls[{index}]", call)


def content_violations(place: str, role: str, message: Json) -> Iterator[str]:
    match message.get("content"):
        case None:
            if role != "assistant" or not (message.get("tool_calls") or message.get("refusal")):
                yield f"Invalid value for 'content': expected a string, got null. {place}"
        case list() as parts:
            allowed = CONTENT_TYPES.get(role, {"text"})
            for part in parts:
                if part.get("type") not in allowed:
                    yield f"Invalid value: '{part.get('type')}' in {place}.content of role {role}."
                yield from unknown_fields(f"{place}.content[]", part, {"type", "text", part.get("type", "")})
            if not parts and role != "assistant":
                yield f"Invalid '{place}.content': empty array."
        case content if not isinstance(content, str):
            yield f"Invalid type for '{place}.content'."


def call_violations(place: str, call: Json) -> Iterator[str]:
    yield from unknown_fields(place, call, CALL_FIELDS)
    if not 0 < len(call.get("id") or "") <= MAX_CALL_ID:
        yield f"Invalid '{place}.id': expected 1 to {MAX_CALL_ID} characters, got {call.get('id')!r}."
    match call:
        case {"type": "function", "function": {"name": str(), "arguments": str(arguments)}}:
            if not is_json(arguments):
                yield f"Invalid '{place}.function.arguments': not JSON."
        case {"type": "custom", "custom": {"name": str(), "input": str()}}:
            pass
        case _:
            yield f"Invalid value: {place} is neither a function call nor a custom one."


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def order_violations(messages: list[Json]) -> Iterator[str]:
    """Yield calls without results, and results without calls."""
    open_ids: list[str] = []
    for message in [*messages, {"role": "end"}]:
        if message.get("role") == "tool":
            if message.get("tool_call_id") not in open_ids:
                yield "messages with role 'tool' must be a response to a preceding message with 'tool_calls'."
            else:
                open_ids.remove(message["tool_call_id"])
            continue
        if open_ids:
            yield (
                "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
                f"'tool_call_id'. Without a response: {', '.join(open_ids)}"
            )
        open_ids = [str(call.get("id")) for call in message.get("tool_calls") or ()]


def tool_violations(body: Json) -> Iterator[str]:
    tools = body.get("tools")
    if tools == []:
        yield "Invalid 'tools': empty array. Expected an array with minimum length 1."
    for name in ("tool_choice", "parallel_tool_calls"):
        if body.get(name) is not None and not tools:
            yield f"Invalid value for '{name}': '{name}' is only allowed when 'tools' are specified."
    if body.get("stream_options") is not None and not body.get("stream"):
        yield "The 'stream_options' parameter is only allowed when 'stream' is enabled."


def reasoning_violations(body: Json) -> Iterator[str]:
    """Yield tool calls that the client sent back without their reasoning, which DeepSeek and Kimi reject.

    Source: api-docs.deepseek.com/guides/thinking_mode, "Tool calls".
    """
    for index, message in enumerate(body.get("messages") or ()):
        if message.get("tool_calls") and not message.get("reasoning_content"):
            yield (
                "The `reasoning_content` in the thinking mode must be passed back to the API. "
                f"It is missing in messages[{index}]."
            )


def without_signatures(body: Json) -> Json:
    """Return the body without the field that only Google's server has."""
    messages = [
        {**message, "tool_calls": [unsigned_call(call) for call in message["tool_calls"]]}
        if message.get("tool_calls")
        else message
        for message in body.get("messages") or ()
    ]
    return {**body, "messages": messages}


def unsigned_call(call: Json) -> Json:
    return {name: value for name, value in call.items() if name != "extra_content"}


def signature_violations(body: Json) -> Iterator[str]:
    """Yield calls since the user's last message that Google's server refuses: the first one is unsigned.

    Source: ai.google.dev/gemini-api/docs/thought-signatures, "OpenAI compatibility".
    """
    for message in reversed(body.get("messages") or ()):
        if message.get("role") == "user":
            return
        if calls := message.get("tool_calls"):
            google = (calls[0].get("extra_content") or {}).get("google") or {}
            if not is_valid(google.get("thought_signature") or ""):
                yield "Function call is missing a thought_signature in functionCall parts, or it is invalid."


def conversation(body: Json) -> Conversation:
    results: list[str] = []
    for message in body.get("messages") or ():
        if message.get("role") == "user" and text_of(message.get("content")).strip():
            results = []
        elif message.get("role") == "tool":
            results.append(text_of(message.get("content")))
    return Conversation(
        tools=tuple(map(tool, body.get("tools") or ())),
        results=tuple(results),
        may_call=body.get("tool_choice") != "none",
        may_call_in_parallel=body.get("parallel_tool_calls") is not False,
        forced_tool=forced_tool(body.get("tool_choice")),
        answer_schema=answer_schema(body.get("response_format") or {}),
    )


def tool(wire: Json) -> Tool:
    match wire:
        case {"type": "custom", "custom": {"name": str(name)}}:
            return Tool(name, {}, is_freeform=True)
        case {"function": {"name": str(name)} as function}:
            return Tool(name, function.get("parameters") or {})
        case _:
            return Tool("", {})


def forced_tool(choice: object) -> str:
    match choice:
        case "required":
            return ANY_TOOL
        case {"function": {"name": str(name)}} | {"custom": {"name": str(name)}}:
            return name
        case _:
            return ""


def answer_schema(response_format: Json) -> Json | None:
    match response_format:
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)}}:
            return schema
        case {"type": "json_object"}:
            return {"type": "object"}
        case _:
            return None
