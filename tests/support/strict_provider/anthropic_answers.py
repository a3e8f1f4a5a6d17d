"""Responses of the scripted model in Anthropic's Messages API."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

from tests.support.strict_provider.agent_script import Turn
from tests.support.strict_provider.signatures import sign
from tests.support.strict_provider.stream import named_event, pieces
from tests.support.strict_provider.usage import CACHE_WRITES, CACHED, INPUT, REASONING, TEXT

Json = dict[str, Any]

INPUT_USAGE: Json = {
    "input_tokens": INPUT - CACHED,
    "cache_creation_input_tokens": CACHE_WRITES,
    "cache_read_input_tokens": CACHED,
    "cache_creation": {"ephemeral_5m_input_tokens": CACHE_WRITES, "ephemeral_1h_input_tokens": 0},
    "service_tier": "standard",
}
FINAL_USAGE: Json = {**INPUT_USAGE, "output_tokens": TEXT + REASONING}


def complete(turn: Turn, body: Json, *, signs: bool) -> Json:
    return {**envelope(body), "content": blocks(turn, signs=signs), **ending(turn), "usage": FINAL_USAGE}


def blocks(turn: Turn, *, signs: bool) -> list[Json]:
    """Return the blocks. Claude, but not DeepSeek, adds a redacted thought before several calls.

    DeepSeek's signature is an id (github.com/NousResearch/hermes-agent/pull/21048).
    """
    thoughts: list[Json] = []
    if turn.thought:
        signature = sign("anthropic", turn.thought) if signs else str(uuid.uuid4())
        thoughts.append({"type": "thinking", "thinking": turn.thought, "signature": signature})
        if len(turn.calls) > 1 and signs:
            thoughts.append({"type": "redacted_thinking", "data": sign("anthropic-redacted", "secret")})
    texts = [{"type": "text", "text": turn.text}] if turn.text else []
    calls = [
        {"type": "tool_use", "id": new_id("toolu_01"), "name": call.tool.name, "input": call.arguments}
        for call in turn.calls
    ]
    return [*thoughts, *texts, *calls]


def stream(turn: Turn, body: Json, *, signs: bool) -> Iterator[bytes]:
    yield from map(named_event, stream_events(turn, body, signs=signs))


def stream_events(turn: Turn, body: Json, *, signs: bool) -> Iterator[Json]:
    start = {"stop_reason": None, "stop_sequence": None, "usage": {**INPUT_USAGE, "output_tokens": 1}}
    yield {"type": "message_start", "message": {**envelope(body), "content": [], **start}}
    for index, block in enumerate(blocks(turn, signs=signs)):
        yield {"type": "content_block_start", "index": index, "content_block": started_block(block)}
        for delta in deltas(block):
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
        yield {"type": "ping"}
    yield {"type": "message_delta", "delta": ending(turn), "usage": FINAL_USAGE}
    yield {"type": "message_stop"}


def started_block(block: Json) -> Json:
    """Return a block as it is before its content has arrived: a thought has an empty signature."""
    empty: Json = {"thinking": "", "signature": "", "text": "", "input": {}}
    return {name: empty.get(name, value) if name != "type" else value for name, value in block.items()}


def deltas(block: Json) -> Iterator[Json]:
    match block["type"]:
        case "thinking":
            for piece in pieces(block["thinking"]):
                yield {"type": "thinking_delta", "thinking": piece}
            yield {"type": "signature_delta", "signature": block["signature"]}
        case "text":
            for piece in pieces(block["text"]):
                yield {"type": "text_delta", "text": piece}
        case "tool_use":
            yield {"type": "input_json_delta", "partial_json": ""}
            for piece in pieces(json.dumps(block["input"], ensure_ascii=False)):
                yield {"type": "input_json_delta", "partial_json": piece}


def ending(turn: Turn) -> Json:
    return {"stop_reason": "tool_use" if turn.calls else "end_turn", "stop_sequence": None}


def envelope(body: Json) -> Json:
    return {"id": new_id("msg_01"), "type": "message", "role": "assistant", "model": body["model"]}


def new_id(prefix: str) -> str:
    return prefix + uuid.uuid4().hex[:22]
