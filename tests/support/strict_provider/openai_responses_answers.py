"""Responses of the scripted model in OpenAI's Responses API."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

from tests.support.strict_provider.agent_script import Call, Turn
from tests.support.strict_provider.openai_responses_rules import ResponseStore, items_of
from tests.support.strict_provider.signatures import sign
from tests.support.strict_provider.stream import named_event, pieces
from tests.support.strict_provider.usage import CACHED, INPUT, REASONING, TEXT

Json = dict[str, Any]

USAGE: Json = {
    "input_tokens": INPUT,
    "input_tokens_details": {"cached_tokens": CACHED},
    "output_tokens": TEXT + REASONING,
    "output_tokens_details": {"reasoning_tokens": REASONING},
    "total_tokens": INPUT + TEXT + REASONING,
}


def complete(turn: Turn, body: Json, store: ResponseStore) -> Json:
    """Return the finished response, and remember what later requests may refer to."""
    response = envelope(body)
    output = items(turn, body)
    remember(response["id"], output, body, store)
    return {**response, "status": "completed", "output": output, "usage": USAGE}


def items(turn: Turn, body: Json) -> list[Json]:
    text = {"type": "output_text", "text": turn.text, "annotations": [], "logprobs": []}
    message = {"type": "message", "id": new_id("msg_"), "role": "assistant", "content": [text]}
    return [
        reasoning(turn, body),
        *([{**message, "status": "completed"}] if turn.text else ()),
        *map(wire_call, turn.calls),
    ]


def reasoning(turn: Turn, body: Json) -> Json:
    """Return the reasoning, with a summary or encrypted content if the request asks for it."""
    id = new_id("rs_")
    shows = (body.get("reasoning") or {}).get("summary")
    summary = [{"type": "summary_text", "text": turn.thought}] if shows else []
    item: Json = {"type": "reasoning", "id": id, "summary": summary}
    if "reasoning.encrypted_content" in (body.get("include") or ()):
        item["encrypted_content"] = sign("responses", id)
    return item


def wire_call(call: Call) -> Json:
    same = {"call_id": new_id("call_"), "name": call.tool.name, "status": "completed"}
    if call.tool.is_freeform:
        return {"type": "custom_tool_call", "id": new_id("ctc_"), **same, "input": call.text}
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    return {"type": "function_call", "id": new_id("fc_"), **same, "arguments": arguments}


def remember(response_id: str, output: list[Json], body: Json, store: ResponseStore) -> None:
    thought, *others = output
    store.reasoning_ids.add(thought["id"])
    store.reasoning_of |= {item["id"]: thought["id"] for item in others}
    if body.get("store") is not False:
        store.stored |= {item["id"] for item in output}
        store.conversations[response_id] = [*items_of(body, store), *output]


def stream(turn: Turn, body: Json, store: ResponseStore) -> Iterator[bytes]:
    response = complete(turn, body, store)
    for number, data in enumerate(stream_events(response)):
        yield named_event({**data, "sequence_number": number})


def stream_events(response: Json) -> Iterator[Json]:
    started = {**response, "status": "in_progress", "output": [], "usage": None}
    yield {"type": "response.created", "response": started}
    yield {"type": "response.in_progress", "response": started}
    for index, item in enumerate(response["output"]):
        yield {"type": "response.output_item.added", "output_index": index, "item": started_item(item)}
        place = {"item_id": item["id"], "output_index": index}
        yield from ({**data, **place} for data in item_events(item))
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    yield {"type": "response.completed", "response": response}


def started_item(item: Json) -> Json:
    """Return the item as it is before its content has arrived."""
    empty: Json = {"content": [], "summary": [], "arguments": "", "input": ""}
    return {name: empty.get(name, value) for name, value in item.items()}


def item_events(item: Json) -> Iterator[Json]:
    match item["type"]:
        case "reasoning":
            for index, part in enumerate(item["summary"]):
                yield from summary_events(index, part)
        case "message":
            yield from text_events(item["content"][0])
        case "function_call":
            yield from growth("response.function_call_arguments", "arguments", item["arguments"])
        case "custom_tool_call":
            yield from growth("response.custom_tool_call_input", "input", item["input"])


def summary_events(index: int, part: Json) -> Iterator[Json]:
    place = {"summary_index": index}
    yield {"type": "response.reasoning_summary_part.added", **place, "part": {**part, "text": ""}}
    yield from ({**data, **place} for data in growth("response.reasoning_summary_text", "text", part["text"]))
    yield {"type": "response.reasoning_summary_part.done", **place, "part": part}


def text_events(part: Json) -> Iterator[Json]:
    place = {"content_index": 0}
    yield {"type": "response.content_part.added", **place, "part": {**part, "text": ""}}
    for data in growth("response.output_text", "text", part["text"]):
        yield {**data, **place, "logprobs": []}
    yield {"type": "response.content_part.done", **place, "part": part}


def growth(kind: str, name: str, text: str) -> Iterator[Json]:
    """Yield the deltas of a text and its end."""
    for piece in pieces(text):
        yield {"type": f"{kind}.delta", "delta": piece}
    yield {"type": f"{kind}.done", name: text}


def envelope(body: Json) -> Json:
    """Return what every response repeats of its request."""
    same = ("instructions", "max_output_tokens", "previous_response_id", "prompt_cache_key")
    return {
        "id": new_id("resp_"),
        "object": "response",
        "created_at": 1,
        "error": None,
        "incomplete_details": None,
        "model": body["model"],
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "tools": body.get("tools") or [],
        "tool_choice": body.get("tool_choice") or "auto",
        "reasoning": body.get("reasoning") or {},
        "text": body.get("text") or {"format": {"type": "text"}},
        "store": body.get("store", True),
        "service_tier": "default",
        "metadata": {},
        **{name: body.get(name) for name in same},
    }


def new_id(prefix: str) -> str:
    return prefix + uuid.uuid4().hex
