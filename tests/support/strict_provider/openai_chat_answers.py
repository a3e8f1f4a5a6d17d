"""Responses of the scripted model in OpenAI's Chat Completions."""

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.support.strict_provider.agent_script import Call, Turn
from tests.support.strict_provider.signatures import sign
from tests.support.strict_provider.stream import event, pieces
from tests.support.strict_provider.usage import CACHED, INPUT, REASONING, TEXT

Json = dict[str, Any]


@dataclass(frozen=True)
class Server:
    """Extensions of a server of this format: its reasoning, and Google's signatures of calls."""

    shows_reasoning: bool = False
    signs_calls: bool = False


USAGE: Json = {
    "prompt_tokens": INPUT,
    "completion_tokens": TEXT + REASONING,
    "total_tokens": INPUT + TEXT + REASONING,
    "prompt_tokens_details": {"cached_tokens": CACHED, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": REASONING, "audio_tokens": 0},
}


def complete(turn: Turn, body: Json, server: Server) -> Json:
    message: Json = {"role": "assistant", "content": turn.text or None, "refusal": None}
    if server.shows_reasoning:
        message["reasoning_content"] = turn.thought
    if turn.calls:
        message["tool_calls"] = wire_calls(turn, server)
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason(turn)}
    return {**envelope(body, "chat.completion"), "choices": [choice], "usage": USAGE}


def stream(turn: Turn, body: Json, server: Server) -> Iterator[bytes]:
    head = envelope(body, "chat.completion.chunk")
    for delta in deltas(turn, server):
        yield chunk(head, delta, None)
    yield chunk(head, {}, finish_reason(turn))
    if (body.get("stream_options") or {}).get("include_usage"):
        yield event({**head, "choices": [], "usage": USAGE})
    yield b"data: [DONE]\n\n"


def deltas(turn: Turn, server: Server) -> Iterator[Json]:
    yield {"role": "assistant", "content": ""}
    if server.shows_reasoning:
        yield from ({"reasoning_content": piece} for piece in pieces(turn.thought))
    yield from ({"content": piece} for piece in pieces(turn.text))
    for index, call in enumerate(wire_calls(turn, server)):
        yield from call_deltas(index, call)


def call_deltas(index: int, whole: Json) -> Iterator[Json]:
    """Yield the call with its name at first, then its arguments in pieces."""
    kind = whole["type"]
    field = "input" if kind == "custom" else "arguments"
    yield {"tool_calls": [{**whole, "index": index, kind: {**whole[kind], field: ""}}]}
    for piece in pieces(whole[kind][field]):
        yield {"tool_calls": [{"index": index, kind: {field: piece}}]}


def wire_calls(turn: Turn, server: Server) -> list[Json]:
    """Return the calls; Google signs the first one."""
    calls = [wire_call(call) for call in turn.calls]
    if calls and server.signs_calls:
        calls[0]["extra_content"] = {"google": {"thought_signature": sign("gemini", turn.calls[0].tool.name)}}
    return calls


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
