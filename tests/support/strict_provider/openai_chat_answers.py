"""Responses of the scripted model in OpenAI's Chat Completions."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

from tests.support.strict_provider.agent_script import Call, Turn
from tests.support.strict_provider.stream import event, pieces
from tests.support.strict_provider.usage import CACHED, INPUT, REASONING, TEXT

Json = dict[str, Any]

USAGE: Json = {
    "prompt_tokens": INPUT,
    "completion_tokens": TEXT + REASONING,
    "total_tokens": INPUT + TEXT + REASONING,
    "prompt_tokens_details": {"cached_tokens": CACHED, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": REASONING, "audio_tokens": 0},
}


def complete(turn: Turn, body: Json, shows_reasoning: bool) -> Json:
    message: Json = {"role": "assistant", "content": turn.text or None, "refusal": None}
    if shows_reasoning:
        message["reasoning_content"] = turn.thought
    if turn.calls:
        message["tool_calls"] = [wire_call(call) for call in turn.calls]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason(turn)}
    return {**envelope(body, "chat.completion"), "choices": [choice], "usage": USAGE}


def stream(turn: Turn, body: Json, shows_reasoning: bool) -> Iterator[bytes]:
    head = envelope(body, "chat.completion.chunk")
    for delta in deltas(turn, shows_reasoning):
        yield chunk(head, delta, None)
    yield chunk(head, {}, finish_reason(turn))
    if (body.get("stream_options") or {}).get("include_usage"):
        yield event({**head, "choices": [], "usage": USAGE})
    yield b"data: [DONE]\n\n"


def deltas(turn: Turn, shows_reasoning: bool) -> Iterator[Json]:
    yield {"role": "assistant", "content": ""}
    if shows_reasoning:
        yield from ({"reasoning_content": piece} for piece in pieces(turn.thought))
    yield from ({"content": piece} for piece in pieces(turn.text))
    for index, call in enumerate(turn.calls):
        yield from call_deltas(index, call)


def call_deltas(index: int, call: Call) -> Iterator[Json]:
    """Yield the call with its name at first, then its arguments in pieces."""
    whole = wire_call(call)
    kind = whole["type"]
    field = "input" if call.tool.is_freeform else "arguments"
    yield {"tool_calls": [{**whole, "index": index, kind: {**whole[kind], field: ""}}]}
    for piece in pieces(whole[kind][field]):
        yield {"tool_calls": [{"index": index, kind: {field: piece}}]}


def wire_call(call: Call) -> Json:
    id = f"call_{uuid.uuid4().hex[:24]}"
    if call.tool.is_freeform:
        return {"id": id, "type": "custom", "custom": {"name": call.tool.name, "input": call.text}}
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    return {"id": id, "type": "function", "function": {"name": call.tool.name, "arguments": arguments}}


def finish_reason(turn: Turn) -> str:
    return "tool_calls" if turn.calls else "stop"


def envelope(body: Json, kind: str) -> Json:
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex[:24]}",
        "object": kind,
        "created": 1,
        "model": body["model"],
        "service_tier": "default",
        "system_fingerprint": None,
    }


def chunk(head: Json, delta: Json, finish: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return event({**head, "choices": [choice]})
