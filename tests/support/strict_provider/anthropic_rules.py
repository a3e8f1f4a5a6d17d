"""Rules of Anthropic's Messages API for conversations.

Sources: platform.claude.com/docs/en/api/messages, .../build-with-claude/extended-thinking ("Preserving
thinking blocks"), .../agents-and-tools/tool-use/implement-tool-use, and the error messages of the API.
"""

import re
from collections.abc import Iterator
from typing import Any

from tests.support.strict_provider.agent_script import ANY_TOOL, Conversation, Tool
from tests.support.strict_provider.content import text_of
from tests.support.strict_provider.signatures import signed_payload

Json = dict[str, Any]

BLOCK_FIELDS = {
    "text": {"text", "citations"},
    "image": {"source"},
    "document": {"source", "title", "context", "citations"},
    "tool_use": {"id", "name", "input", "caller"},
    "tool_result": {"tool_use_id", "content", "is_error"},
    "thinking": {"thinking", "signature"},
    "redacted_thinking": {"data"},
}
RESULT_TYPES = {"text", "image", "document", "search_result", "tool_reference"}
TOOL_ID = re.compile(r"[a-zA-Z0-9_-]+")
THINKING_TYPES = ("thinking", "redacted_thinking")
MIN_BUDGET = 1024


def violations(body: Json) -> Iterator[str]:
    """Yield the reasons for which Anthropic would reject the messages, or settings that depend on them."""
    if not isinstance(body.get("max_tokens"), int):
        yield "max_tokens: Field required"
    messages = body.get("messages") or []
    if not messages:
        yield "messages: at least one message is required"
    for index, message in enumerate(messages):
        yield from message_violations(f"messages.{index}", message)
    turns = merged(messages)
    if turns and turns[0][0] != "user":
        yield 'messages: first message must use the "user" role'
    yield from pairing_violations(turns)
    yield from thinking_violations(body, turns)
    yield from tool_violations(body)


def unsigned_violations(body: Json) -> Iterator[str]:
    """Yield what DeepSeek rejects. It does not verify signatures, but requires its thinking.

    Sources: api-docs.deepseek.com/guides/thinking_mode and guides/anthropic_api.
    """
    yield from (violation for violation in violations(body) if "Invalid `signature`" not in violation)
    for index, message in enumerate(body.get("messages") or []):
        blocks = {block.get("type"): block for block in blocks_of(message)}
        if "tool_use" in blocks and not blocks.get("thinking", {}).get("thinking"):
            yield f"messages.{index}: The `content[].thinking` in the thinking mode must be passed back"
        if "redacted_thinking" in blocks:
            yield f"messages.{index}: redacted_thinking is not supported"


def blocks_of(message: Json) -> list[Json]:
    content = message.get("content")
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return content if isinstance(content, list) else []


def merged(messages: list[Json]) -> list[tuple[str, list[Json]]]:
    """Return the turns: consecutive messages of one role count as one."""
    turns: list[tuple[str, list[Json]]] = []
    for message in messages:
        if turns and turns[-1][0] == message.get("role"):
            turns[-1][1].extend(blocks_of(message))
        else:
            turns.append((str(message.get("role")), list(blocks_of(message))))
    return turns


def message_violations(place: str, message: Json) -> Iterator[str]:
    role = message.get("role")
    if role not in ("user", "assistant"):
        yield f"{place}.role: Input should be 'user' or 'assistant'"
    for name in message.keys() - {"role", "content"}:
        yield f"{place}.{name}: Extra inputs are not permitted"
    blocks = blocks_of(message)
    if not blocks:
        yield f"{place}: all messages must have non-empty content"
    for index, block in enumerate(blocks):
        yield from block_violations(f"{place}.content.{index}", str(role), block)


def block_violations(place: str, role: str, block: Json) -> Iterator[str]:
    kind = str(block.get("type"))
    if kind not in BLOCK_FIELDS:
        yield f"{place}: Input tag '{kind}' found using 'type' does not match any of the expected tags"
        return
    for name in block.keys() - BLOCK_FIELDS[kind] - {"type", "cache_control"}:
        yield f"{place}.{kind}.{name}: Extra inputs are not permitted"
    if (kind in ("tool_use", *THINKING_TYPES) and role == "user") or (
        kind == "tool_result" and role != "user"
    ):
        yield f"{place}: `{kind}` blocks cannot be in `{role}` messages"
    yield from value_violations(place, block)


def value_violations(place: str, block: Json) -> Iterator[str]:
    match block:
        case {"type": "text", "text": text} if not str(text or "").strip():
            yield "messages: text content blocks must contain non-whitespace text"
        case {"type": "tool_use"}:
            if not TOOL_ID.fullmatch(str(block.get("id") or "")):
                yield f"{place}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'"
            if not isinstance(block.get("input"), dict):
                yield f"{place}.tool_use.input: Input should be a valid dictionary"
        case {"type": "tool_result", "content": [*parts]}:
            for part in parts:
                if part.get("type") not in RESULT_TYPES:
                    yield f"{place}.tool_result.content: Input tag '{part.get('type')}' is not expected"
        case {"type": "thinking"}:
            signed = signed_payload("anthropic", block.get("signature"))
            if signed is None or signed != block.get("thinking"):
                yield f"{place}: Invalid `signature` in `thinking` block"
        case {"type": "redacted_thinking"}:
            if signed_payload("anthropic-redacted", block.get("data")) is None:
                yield f"{place}: Invalid `data` in `redacted_thinking` block"


def pairing_violations(turns: list[tuple[str, list[Json]]]) -> Iterator[str]:
    """Yield calls without results, results without calls, and results that do not come first."""
    open_ids: list[str] = []
    for role, blocks in [*turns, ("end", [])]:
        results = [str(block.get("tool_use_id")) for block in blocks if block.get("type") == "tool_result"]
        if missing := set(open_ids) - set(results):
            yield f"`tool_use` ids were found without `tool_result` blocks right after: {sorted(missing)}"
        if unexpected := set(results) - set(open_ids):
            yield f"unexpected `tool_use_id` found in `tool_result` blocks: {sorted(unexpected)}"
        if len(results) != len(set(results)):
            yield "each tool_use must have a single result"
        if role == "user" and not results_come_first(blocks):
            yield "tool_result blocks must come first in the content"
        open_ids = [str(block.get("id")) for block in blocks if block.get("type") == "tool_use"]
        if len(open_ids) != len(set(open_ids)):
            yield "messages: `tool_use` ids must be unique"


def results_come_first(blocks: list[Json]) -> bool:
    are_results = [block.get("type") == "tool_result" for block in blocks]
    return are_results == sorted(are_results, reverse=True)


def is_thinking(body: Json) -> bool:
    return (body.get("thinking") or {}).get("type") in ("enabled", "adaptive")


def thinking_violations(body: Json, turns: list[tuple[str, list[Json]]]) -> Iterator[str]:
    if not is_thinking(body):
        return
    thinking = body["thinking"]
    if thinking["type"] == "enabled":
        budget = thinking.get("budget_tokens") or 0
        if not MIN_BUDGET <= budget < (body.get("max_tokens") or 0):
            yield f"thinking.enabled.budget_tokens: at least {MIN_BUDGET} and less than `max_tokens`"
        if open_turn_without_thinking(turns):
            yield "Expected `thinking` or `redacted_thinking`: a final `assistant` message must start with it"
    if (body.get("tool_choice") or {}).get("type") in ("any", "tool"):
        yield "Thinking may not be enabled when tool_choice forces tool use."


def open_turn_without_thinking(turns: list[tuple[str, list[Json]]]) -> bool:
    """Return whether calls since the user's last text lack the thinking that preceded them."""
    for role, blocks in reversed(turns):
        if role == "user" and not any(block.get("type") == "tool_result" for block in blocks):
            return False
        if role == "assistant" and blocks and blocks[0].get("type") not in THINKING_TYPES:
            return any(block.get("type") == "tool_use" for block in blocks)
    return False


def tool_violations(body: Json) -> Iterator[str]:
    names = [tool.get("name") for tool in body.get("tools") or ()]
    if len(names) != len(set(names)):
        yield "tools: Tool names must be unique."
    if body.get("tool_choice") is not None and not names:
        yield "tool_choice may only be specified while providing tools"


def conversation(body: Json) -> Conversation:
    results: list[str] = []
    for role, blocks in merged(body.get("messages") or []):
        texts = [text_of(block.get("content")) for block in blocks if block.get("type") == "tool_result"]
        if role == "user":
            results = [*results, *texts] if texts else []
    choice = body.get("tool_choice") or {}
    text_format = (body.get("output_config") or {}).get("format") or body.get("output_format") or {}
    return Conversation(
        tools=tuple(tools_of(body)),
        results=tuple(results),
        may_call=choice.get("type") != "none",
        may_call_in_parallel=not choice.get("disable_parallel_tool_use"),
        forced_tool=ANY_TOOL if choice.get("type") == "any" else choice.get("name", ""),
        answer_schema=text_format.get("schema"),
        thinks=is_thinking(body),
    )


def tools_of(body: Json) -> Iterator[Tool]:
    """Yield the tools that the client runs and that the model has seen."""
    for tool in body.get("tools") or ():
        if tool.get("type") in (None, "custom") and not tool.get("defer_loading"):
            yield Tool(str(tool.get("name")), tool.get("input_schema") or {})
