"""Checks of a rendered request, one for each rule of the table."""

import base64
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

from proxy.formats.constraints.constraint import Constraint, Destination, Rule
from proxy.formats.constraints.table import constraints_for
from proxy.formats.json_body import dict_items
from tests.support.vendor_checker.schema_checks import (
    array_without_items,
    compiled_limits,
    lone_references,
    object_without_properties,
    outside_of_draft,
    outside_of_subset,
    property_names,
)
from tests.support.vendor_checker.wire import READERS, Json, WireRequest, objects_in

MAGIC_BYTES = {
    b"\x89PNG": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"%PDF-": "application/pdf",
}
Check = Callable[[Constraint, WireRequest], Iterator[str]]


def violations(body: Json, destination: Destination) -> list[str]:
    """Return the violations in a rendered request, each with the row of the table that it violates."""
    request = READERS[destination.format](body)
    constraints = constraints_for(destination)
    found: list[str] = []
    for rule, rows in constraints.rows.items():
        for row in applicable(rule, list(rows)):
            found += [f"{row.id}: {problem}" for problem in CHECKS[rule](row, request)]
    return found


def applicable(rule: Rule, rows: list[Constraint]) -> list[Constraint]:
    """Return the rows that apply: the first, all (for some rules), or one for each name (for `range`)."""
    if rule in ("unsupported_settings", "sampling", "message_fields", "top_level_keywords"):
        return rows
    if rule == "range":
        names = [set(row.names) for row in rows]
        return [
            row
            for place, row in enumerate(rows)
            if not any(names[place] & earlier for earlier in names[:place])
        ]
    return rows[:1]


def is_too_much(row: Constraint, amount: float) -> bool:
    """Return whether an amount is above the maximum of a row, or below its minimum."""
    return (row.maximum is not None and amount > row.maximum) or (
        row.minimum is not None and amount < row.minimum
    )


# Settings -----------------------------------------------------------------------------------------


def check_user(row: Constraint, request: WireRequest) -> Iterator[str]:
    for user in request.users:
        if is_too_much(row, len(user)) or (row.pattern and not re.fullmatch(row.pattern, user)):
            yield f"user {user[:20]!r} of {len(user)} characters"


def check_metadata(row: Constraint, request: WireRequest) -> Iterator[str]:
    if is_too_much(row, len(request.metadata)):
        yield "too many pairs of metadata"
    for key, value in request.metadata.items():
        if len(key) > 64 or len(value) > 512:
            yield f"metadata {key[:20]!r}"


def check_max_tokens(row: Constraint, request: WireRequest) -> Iterator[str]:
    if request.max_tokens is not None and is_too_much(row, request.max_tokens):
        yield f"max_tokens {request.max_tokens}"


def check_unstreamed_tokens(row: Constraint, request: WireRequest) -> Iterator[str]:
    if not request.is_stream:
        yield from check_max_tokens(row, request)


def check_budget(row: Constraint, request: WireRequest) -> Iterator[str]:
    budget = request.budget
    if budget is None or (budget == -1 and row.maximum is not None):
        return
    if is_too_much(row, budget):
        yield f"thinking budget {budget}"
    if "max_tokens" in request.body and budget >= (request.max_tokens or 0):
        yield f"thinking budget {budget} reaches max_tokens {request.max_tokens}"


def check_range(row: Constraint, request: WireRequest) -> Iterator[str]:
    for name in row.names:
        value = request.settings.get(name)
        if isinstance(value, int | float) and is_too_much(row, value):
            yield f"{name} {value}"


def check_seed(row: Constraint, request: WireRequest) -> Iterator[str]:
    if "seed" in request.settings and is_too_much(row, request.settings["seed"]):
        yield f"seed {request.settings['seed']}"


def check_stop_count(row: Constraint, request: WireRequest) -> Iterator[str]:
    if is_too_much(row, len(request.stop)):
        yield f"{len(request.stop)} stop sequences"


def check_blank_stop(_row: Constraint, request: WireRequest) -> Iterator[str]:
    if any(not sequence.strip() for sequence in request.stop):
        yield "a blank stop sequence"


def check_unsupported(row: Constraint, request: WireRequest) -> Iterator[str]:
    present = request.settings | ({"stop": True} if request.stop else {})
    present |= {"reasoning": True} if request.effort is not None else {}
    for name in row.names:
        if name in present:
            yield f"{name} is not supported"


def check_sampling(row: Constraint, request: WireRequest) -> Iterator[str]:
    if request.effort != "none":
        yield from check_unsupported(row, request)


def check_exclusive(row: Constraint, request: WireRequest) -> Iterator[str]:
    if all(name in request.settings for name in row.names):
        yield f"{' with '.join(row.names)}"


def check_thinking_sampling(row: Constraint, request: WireRequest) -> Iterator[str]:
    thinks = request.body.get("thinking", {}).get("type") in ("enabled", "adaptive")
    for name in row.names:
        if thinks and name in request.settings and (name, request.settings[name]) != ("temperature", 1):
            yield f"{name} while the model thinks"


def check_efforts(row: Constraint, request: WireRequest) -> Iterator[str]:
    if request.effort is not None and request.effort not in row.names:
        yield f"effort {request.effort}"


# Formats of the response --------------------------------------------------------------------------


def check_format_with_tools(_row: Constraint, request: WireRequest) -> Iterator[str]:
    if request.tools and request.has_response_format:
        yield "a response format together with tools"


def check_format_type(row: Constraint, request: WireRequest) -> Iterator[str]:
    schema = request.response_schema
    if not isinstance(schema, dict):
        return
    if schema.get("type", "object") != "object" or set(row.names) & set(schema):
        yield f"a response schema of type {schema.get('type')!r} with {sorted(schema)}"


def check_json_word(_row: Constraint, request: WireRequest) -> Iterator[str]:
    said = request.body.get("messages") or request.body.get("input")
    if request.is_json_mode and "json" not in str(said).lower():
        yield "JSON mode without the word JSON"


# Tools --------------------------------------------------------------------------------------------


def check_tool_name(row: Constraint, request: WireRequest) -> Iterator[str]:
    called = [name for message in request.messages for name in message.call_names]
    for name in (*request.names, *called):
        if not re.fullmatch(row.pattern, name):
            yield f"the name {name[:80]!r} of a tool"


def check_unique_names(_row: Constraint, request: WireRequest) -> Iterator[str]:
    if len(request.names) > len(set(request.names)):
        yield "two tools of one name"


def check_tool_count(row: Constraint, request: WireRequest) -> Iterator[str]:
    if is_too_much(row, len(request.tools)):
        yield f"{len(request.tools)} tools"


def check_description(row: Constraint, request: WireRequest) -> Iterator[str]:
    for tool in request.tools:
        if is_too_much(row, len(tool.description)):
            yield f"a description of {len(tool.description)} characters"


def check_forced(_row: Constraint, request: WireRequest) -> Iterator[str]:
    if request.is_forced:
        yield "a forced choice of a tool"


def check_tools_needed(_row: Constraint, request: WireRequest) -> Iterator[str]:
    if request.is_tools_empty:
        yield "an empty list of tools"
    if not request.body.get("tools") and (request.has_choice or "parallel_tool_calls" in request.body):
        yield "a tool choice without tools"


def check_tools_by_responses(_row: Constraint, request: WireRequest) -> Iterator[str]:
    if request.tools and request.effort != "none":
        yield "function tools with a reasoning effort in chat completions"


# Schemas ------------------------------------------------------------------------------------------


def schemas_of(request: WireRequest) -> Iterator[tuple[str, Any]]:
    for tool in request.tools:
        if tool.schema is not None:
            yield tool.name, tool.schema


def check_top_level_type(_row: Constraint, request: WireRequest) -> Iterator[str]:
    for name, schema in schemas_of(request):
        if schema.get("type") != "object":
            yield f"{name}: arguments of type {schema.get('type')!r}"


def check_top_level_keywords(row: Constraint, request: WireRequest) -> Iterator[str]:
    for name, schema in schemas_of(request):
        if found := set(row.names) & set(schema):
            yield f"{name}: {sorted(found)} at the top level"


def check_each_schema(find: Callable[[Any], list[str]]) -> Check:
    def check(_row: Constraint, request: WireRequest) -> Iterator[str]:
        answered = [("response", request.response_schema)] if request.response_schema is not None else []
        for name, schema in (*schemas_of(request), *answered):
            for problem in find(schema):
                yield f"{name}: {problem}"

    return check


def check_property_keys(row: Constraint, request: WireRequest) -> Iterator[str]:
    for name, schema in schemas_of(request):
        for key in property_names(schema):
            if not re.fullmatch(row.pattern, key):
                yield f"{name}: the property {key!r}"


def check_strict_subset(_row: Constraint, request: WireRequest) -> Iterator[str]:
    demanded = [(tool.name, tool.schema) for tool in request.tools if tool.is_strict]
    if request.is_response_strict:
        demanded.append(("response", request.response_schema))
    for name, schema in demanded:
        for problem in outside_of_subset(schema):
            yield f"{name}: {problem}"


def check_strict_limits(row: Constraint, request: WireRequest) -> Iterator[str]:
    schemas = [tool.schema for tool in request.tools if tool.is_strict]
    if is_too_much(row, len(schemas)):
        yield f"{len(schemas)} strict tools"
    yield from compiled_limits([*schemas, *([request.response_schema] if request.response_schema else [])])


# Messages -----------------------------------------------------------------------------------------


def check_call_id(row: Constraint, request: WireRequest) -> Iterator[str]:
    for call_id in (call_id for message in request.messages for call_id in message.call_ids):
        if not re.fullmatch(row.pattern, call_id):
            yield f"the id {call_id!r}"


def check_message_fields(row: Constraint, request: WireRequest) -> Iterator[str]:
    for message in request.messages:
        if found := message.fields & set(row.names):
            yield f"the fields {sorted(found)}"


def check_earlier_thinking(_row: Constraint, request: WireRequest) -> Iterator[str]:
    for message in request.body.get("messages", ()) if request.effort != "none" else ():
        blocks = {block.get("type"): block for block in dict_items(message.get("content"))}
        thinking = message.get("reasoning_content") or blocks.get("thinking", {}).get("thinking")
        if (message.get("tool_calls") or "tool_use" in blocks) and not thinking:
            yield "calls without the thinking before them"


def check_media(_row: Constraint, request: WireRequest) -> Iterator[str]:
    for media_type, data in (*request.media, *map(split_data_url, filter(is_data_url, request.urls))):
        start = base64.b64decode(data[:64] + "=" * (-len(data[:64]) % 4))
        found = next((kind for magic, kind in MAGIC_BYTES.items() if start.startswith(magic)), media_type)
        if media_type == "image/jpg" or (media_type.startswith("image/") and found != media_type):
            yield f"{media_type} for {found}"


def is_data_url(url: str) -> bool:
    return url.lower().startswith("data:")


def split_data_url(url: str) -> tuple[str, str]:
    head, _, data = url.partition(",")
    return head.removeprefix("data:").partition(";")[0], data if head.endswith(";base64") else ""


def check_base64(_row: Constraint, request: WireRequest) -> Iterator[str]:
    for url in filter(is_data_url, request.urls):
        if not url.partition(",")[0].endswith(";base64"):
            yield f"the data URL {url[:40]}"
    for _, data in (*request.media, *map(split_data_url, filter(is_data_url, request.urls))):
        try:
            base64.b64decode(data, validate=True)
        except ValueError:
            yield f"the base64 {data[:40]}"


def check_blank_text(_row: Constraint, request: WireRequest) -> Iterator[str]:
    if any(not text.strip() for message in request.messages for text in message.texts):
        yield "a blank text"


def check_empty_content(_row: Constraint, request: WireRequest) -> Iterator[str]:
    # A result of a tool may be empty.
    if any(message.is_empty and message.role != "tool" for message in request.messages):
        yield "a message without content"


def check_breakpoints(row: Constraint, request: WireRequest) -> Iterator[str]:
    marks = sum("cache_control" in item for item in objects_in(request.body))
    if is_too_much(row, marks):
        yield f"{marks} blocks with cache_control"


def check_last_role(_row: Constraint, request: WireRequest) -> Iterator[str]:
    if request.messages and request.messages[-1].role == "assistant" and not request.messages[-1].call_names:
        yield "a last message of the assistant"


def check_user_after_tool(_row: Constraint, request: WireRequest) -> Iterator[str]:
    roles = [message.role for message in request.messages]
    if ("tool", "user") in pairwise(roles):
        yield "a user's message after a tool's"


CHECKS: dict[Rule, Check] = {
    "user": check_user,
    "metadata": check_metadata,
    "max_tokens": check_max_tokens,
    "max_tokens_without_stream": check_unstreamed_tokens,
    "min_tokens": check_max_tokens,
    "thinking_budget": check_budget,
    "range": check_range,
    "seed": check_seed,
    "stop_count": check_stop_count,
    "blank_stop": check_blank_stop,
    "unsupported_settings": check_unsupported,
    "sampling": check_sampling,
    "exclusive": check_exclusive,
    "thinking_sampling": check_thinking_sampling,
    "efforts": check_efforts,
    "format_with_tools": check_format_with_tools,
    "format_top_type": check_format_type,
    "json_word": check_json_word,
    "tool_name": check_tool_name,
    "unique_tool_names": check_unique_names,
    "tool_count": check_tool_count,
    "tool_description": check_description,
    "forced_tool_choice": check_forced,
    "tools_needed": check_tools_needed,
    "tools_by_responses": check_tools_by_responses,
    "top_level_type": check_top_level_type,
    "top_level_keywords": check_top_level_keywords,
    "schema_draft": check_each_schema(outside_of_draft),
    "object_properties": check_each_schema(object_without_properties),
    "array_items": check_each_schema(array_without_items),
    "lone_reference": check_each_schema(lone_references),
    "property_keys": check_property_keys,
    "strict_subset": check_strict_subset,
    "strict_limits": check_strict_limits,
    "call_id": check_call_id,
    "message_fields": check_message_fields,
    "earlier_thinking": check_earlier_thinking,
    "media_type": check_media,
    "base64": check_base64,
    "blank_text": check_blank_text,
    "empty_content": check_empty_content,
    "cache_breakpoints": check_breakpoints,
    "last_role": check_last_role,
    "user_after_tool": check_user_after_tool,
}
