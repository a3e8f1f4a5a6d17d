"""Rules of OpenAI's Responses API for the items of conversations.

Sources: platform.openai.com/docs/api-reference/responses/create, docs/guides/reasoning ("Keeping reasoning
items in context"), and the error messages of the API.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.support.strict_provider.agent_script import ANY_TOOL, Conversation, Tool
from tests.support.strict_provider.content import text_of, unknown_fields
from tests.support.strict_provider.signatures import signed_payload

Json = dict[str, Any]

MAX_ID = 64
ITEM_FIELDS = {
    "message": {"role", "content", "phase"},
    "reasoning": {"summary", "content", "encrypted_content"},
    "function_call": {"call_id", "name", "arguments", "namespace"},
    "function_call_output": {"call_id", "output"},
    "custom_tool_call": {"call_id", "name", "input", "namespace"},
    "custom_tool_call_output": {"call_id", "output"},
    "local_shell_call": {"call_id", "action"},
    "local_shell_call_output": {"call_id", "output"},
    "item_reference": set(),
}
OTHER_ITEMS = {"web_search_call", "tool_search_call", "tool_search_output", "additional_tools", "compaction"}
"""Items that agents send and whose fields are not checked here."""
ID_PREFIXES = {
    "message": "msg_",
    "reasoning": "rs_",
    "function_call": "fc_",
    "custom_tool_call": "ctc_",
}
CONTENT_TYPES = {"assistant": {"output_text", "refusal"}}
INPUT_TYPES = {"input_text", "input_image", "input_file", "input_audio"}
CALLS = {"function_call", "custom_tool_call", "local_shell_call"}
MODEL_ITEMS = CALLS | {"message"}


@dataclass
class ResponseStore:
    """Responses and items that the provider has created."""

    conversations: dict[str, list[Json]] = field(default_factory=dict)
    """Input and output of each stored response, by its id."""
    stored: set[str] = field(default_factory=set)
    """Ids of the items that a request may name without their content."""
    reasoning_ids: set[str] = field(default_factory=set)
    reasoning_of: dict[str, str] = field(default_factory=dict)
    """The reasoning item that must precede an item, by the item's id."""


def items_of(body: Json, store: ResponseStore) -> list[Json]:
    """Return the whole conversation: the items of the previous response, then the input of this request."""
    sent = body.get("input") or []
    items = [{"type": "message", "role": "user", "content": sent}] if isinstance(sent, str) else list(sent)
    return [*store.conversations.get(body.get("previous_response_id") or "", ()), *items]


def type_of(item: Json) -> str:
    return str(item.get("type") or "message")


def violations(body: Json, store: ResponseStore) -> Iterator[str]:
    """Yield the reasons for which OpenAI would reject the items."""
    previous = body.get("previous_response_id")
    if previous and previous not in store.conversations:
        yield f"Previous response with id '{previous}' not found."
    sent = body.get("input")
    if not sent and not previous:
        yield "Missing required parameter: 'input'."
    for index, item in enumerate(sent if isinstance(sent, list) else ()):
        yield from item_violations(f"input[{index}]", item)
    items = items_of(body, store)
    yield from id_violations(items)
    yield from reasoning_violations(items, store)
    yield from pairing_violations(items)


def item_violations(place: str, item: Json) -> Iterator[str]:
    kind = type_of(item)
    if kind in OTHER_ITEMS:
        return
    if kind not in ITEM_FIELDS:
        yield f"Invalid value: '{kind}'. {place}.type"
        return
    yield from unknown_fields(place, item, ITEM_FIELDS[kind] | {"type", "id", "status"})
    for name in sorted(ITEM_FIELDS[kind] & {"call_id", "name", "arguments", "input", "role"}):
        if not isinstance(item.get(name), str):
            yield f"Missing required parameter: '{place}.{name}'."
    if kind == "reasoning" and not isinstance(item.get("summary"), list):
        yield f"Missing required parameter: '{place}.summary'."
    yield from content_violations(place, item)


def content_violations(place: str, item: Json) -> Iterator[str]:
    parts = item.get("content") if type_of(item) == "message" else item.get("output")
    if type_of(item) == "message" and parts is None:
        yield f"Missing required parameter: '{place}.content'."
    allowed = CONTENT_TYPES.get(item.get("role", ""), INPUT_TYPES)
    for part in parts if isinstance(parts, list) else ():
        if part.get("type") not in allowed:
            yield f"Invalid value: '{part.get('type')}'. Supported values are: {sorted(allowed)}. {place}"


def id_violations(items: list[Json]) -> Iterator[str]:
    seen: set[str] = set()
    for item in items:
        id, kind = item.get("id"), type_of(item)
        prefix = ID_PREFIXES.get(kind, "")
        if id is None or (kind == "message" and item.get("role") != "assistant"):
            continue
        if not id.startswith(prefix):
            yield f"Invalid 'id': '{id}'. Expected an ID that begins with '{prefix}'."
        if max(len(id), len(item.get("call_id") or "")) > MAX_ID:
            yield f"Invalid id or call_id of '{id}': string too long. Expected at most {MAX_ID}."
        if id in seen:
            yield f"Duplicate item found with id {id}. Remove duplicate items from your input and try again."
        seen.add(id)


def reasoning_violations(items: list[Json], store: ResponseStore) -> Iterator[str]:
    """Yield reasoning items without the item that must follow, and items without their reasoning."""
    present = {item.get("id") for item in items if type_of(item) == "reasoning"}
    for index, item in enumerate(items):
        id = item.get("id") or ""
        if type_of(item) == "reasoning":
            yield from origin_violations(item, store)
            following = items[index + 1] if index + 1 < len(items) else {"role": "user"}
            if id and not is_by_model(following):
                yield f"Item '{id}' of type 'reasoning' was provided without its required following item."
        elif (wanted := store.reasoning_of.get(id)) and wanted not in present:
            yield (
                f"Item '{id}' of type '{type_of(item)}' was provided without its required 'reasoning' item: "
                f"'{wanted}'."
            )
        elif type_of(item) == "item_reference" and id not in store.stored:
            yield f"Item with id '{id}' not found."


def is_by_model(item: Json) -> bool:
    kind = type_of(item)
    return kind == "reasoning" or (kind in MODEL_ITEMS and item.get("role") != "user")


def origin_violations(item: Json, store: ResponseStore) -> Iterator[str]:
    """Yield reasoning items that this provider has not issued."""
    id, content = item.get("id"), item.get("encrypted_content")
    if content:
        if signed_payload("responses", content) not in ({id} if id else store.reasoning_ids):
            yield f"The encrypted content for item {id} could not be verified."
    elif id and id not in store.stored:
        yield f"Item with id '{id}' not found. Items are not persisted when `store` is set to false."


def pairing_violations(items: list[Json]) -> Iterator[str]:
    """Yield calls without outputs, and outputs without calls."""
    called: set[str] = set()
    answered: set[str] = set()
    for item in items:
        kind, call_id = type_of(item), item.get("call_id") or ""
        if kind in CALLS:
            called.add(call_id)
        elif kind in {f"{call}_output" for call in CALLS}:
            if call_id not in called:
                yield f"No tool call found for function call output with call_id {call_id}."
            answered.add(call_id)
    for call_id in called - answered:
        yield f"No tool output found for function call {call_id}."


def conversation(body: Json, store: ResponseStore) -> Conversation:
    results: list[str] = []
    for item in items_of(body, store):
        if type_of(item) == "message" and item.get("role") == "user":
            results = []
        elif "output" in item and type_of(item).endswith("_output"):
            results.append(text_of(item["output"]))
    text_format = (body.get("text") or {}).get("format") or {}
    return Conversation(
        tools=tuple(tools_of(body)),
        results=tuple(results),
        may_call=body.get("tool_choice") != "none",
        may_call_in_parallel=body.get("parallel_tool_calls") is not False,
        forced_tool=forced_tool(body.get("tool_choice")),
        answer_schema=text_format.get("schema"),
    )


def tools_of(body: Json) -> Iterator[Tool]:
    """Yield the tools that the client runs; tools in a namespace and those of the provider are not called."""
    for tool in body.get("tools") or ():
        match tool:
            case {"type": "function", "name": str(name)}:
                yield Tool(name, tool.get("parameters") or {})
            case {"type": "custom", "name": str(name)}:
                yield Tool(name, {}, is_freeform=True)


def forced_tool(choice: object) -> str:
    match choice:
        case "required":
            return ANY_TOOL
        case {"name": str(name)}:
            return name
        case _:
            return ""
