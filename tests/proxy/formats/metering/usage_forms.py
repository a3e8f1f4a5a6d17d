"""Streams in each form in which servers report usage, with the usage that they report."""

import json
from typing import Any

from msgspec.structs import replace

from proxy.formats.neutral import Usage

Json = dict[str, Any]
FULL = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
COUNTED = Usage(input=1000, output=100)


def event(data: Json | str, name: str = "") -> bytes:
    text = data if isinstance(data, str) else json.dumps(data)
    lines = "\n".join(f"data: {line}" for line in text.split("\n"))
    return (f"event: {name}\n" if name else "").encode() + lines.encode() + b"\n\n"


# Chat completions ---------------------------------------------------------------------------------


def chunk(delta: Json, finish: str | None = None, **fields: Any) -> Json:
    return {
        "id": "c",
        "model": "m",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    } | fields


HI, END = event(chunk({"content": "hi"})), event(chunk({}, "stop"))
DONE = b"data: [DONE]\n\n"


def at_end(usage: Any, **fields: Any) -> bytes:
    return HI + event(chunk({}, "stop", usage=usage, **fields)) + DONE


def in_own_chunk(text: Json | str) -> bytes:
    return HI + END + event(text) + DONE


CHAT_FORMS: dict[str, tuple[bytes, Usage]] = {
    "last chunk": (at_end(FULL), COUNTED),
    "chunk of its own": (in_own_chunk({"id": "c", "choices": [], "usage": FULL}), COUNTED),
    "no choices": (in_own_chunk({"id": "c", "usage": FULL}), COUNTED),
    "choices are null": (in_own_chunk({"id": "c", "choices": None, "usage": FULL}), COUNTED),
    "choices are mistyped": (in_own_chunk({"id": "c", "choices": "none", "usage": FULL}), COUNTED),
    "in a choice": (
        HI + event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": FULL}]}) + DONE,
        COUNTED,
    ),
    "x_groq": (HI + event(chunk({}, "stop", x_groq={"id": "r", "usage": FULL})) + DONE, COUNTED),
    "x_groq beside null": (
        HI + event(chunk({}, "stop", usage=None, x_groq={"usage": FULL})) + DONE,
        COUNTED,
    ),
    "zeros at the top, counts in a choice": (
        HI
        + event(
            {
                "choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": FULL}],
                "usage": dict.fromkeys(FULL, 0),
            }
        )
        + DONE,
        COUNTED,
    ),
    "after the end marker": (HI + END + DONE + event({"id": "c", "choices": [], "usage": FULL}), COUNTED),
    "continuous": (
        event(chunk({"content": "h"}, usage={**FULL, "completion_tokens": 1}))
        + event(chunk({"content": "i"}, usage=FULL))
        + END
        + DONE,
        COUNTED,
    ),
    "then null": (HI + event(chunk({}, usage=FULL)) + event(chunk({}, "stop", usage=None)) + DONE, COUNTED),
    "then empty": (HI + event(chunk({}, usage=FULL)) + event(chunk({}, "stop", usage={})) + DONE, COUNTED),
    "then zeros": (
        HI + event(chunk({}, usage=FULL)) + event(chunk({}, "stop", usage=dict.fromkeys(FULL, 0))) + DONE,
        COUNTED,
    ),
    "then more text": (
        event(chunk({"content": "h"}, usage={**FULL, "completion_tokens": 1}))
        + event(chunk({"content": "x" * 80}))
        + END
        + DONE,
        Usage(input=1000, output=21, estimated=True),
    ),
    "floats": (at_end({name: float(count) for name, count in FULL.items()}), COUNTED),
    "digits": (at_end({name: str(count) for name, count in FULL.items()}), COUNTED),
    "details are null": (
        at_end({**FULL, "prompt_tokens_details": None, "completion_tokens_details": None}),
        COUNTED,
    ),
    "details are a list": (at_end({**FULL, "prompt_tokens_details": []}), COUNTED),
    "DeepSeek's cache": (
        at_end({**FULL, "prompt_cache_hit_tokens": 400, "prompt_cache_miss_tokens": 600}),
        Usage(input=600, cache_read=400, output=100),
    ),
    "Moonshot's cache": (
        at_end({**FULL, "cached_tokens": 400}),
        Usage(input=600, cache_read=400, output=100),
    ),
    "names of the Responses API": (
        at_end({"input_tokens": 1000, "output_tokens": 100, "total_tokens": 1100}),
        COUNTED,
    ),
    "no space after the colon": (
        HI + END + b"data:" + json.dumps({"usage": FULL}).encode() + b"\n\n",
        COUNTED,
    ),
    "pretty-printed": (
        in_own_chunk(json.dumps({"id": "c", "choices": [], "usage": FULL}, indent=1)),
        COUNTED,
    ),
    "escaped key": (
        in_own_chunk('{"choices":[],"us\\u0061ge":{"prompt\\u005ftokens":1000,"completion_tokens":100}}'),
        COUNTED,
    ),
    "spaces before colons": (
        in_own_chunk('{"choices" : [], "usage" : {"prompt_tokens" : 1000, "completion_tokens" : 100}}'),
        COUNTED,
    ),
    "number out of range beside it": (
        in_own_chunk('{"choices":[],"usage":{"prompt_tokens":1000,"completion_tokens":100},"x":1e999}'),
        COUNTED,
    ),
    "lone surrogate beside it": (
        in_own_chunk(
            '{"choices":[{"index":0,"delta":{"content":"\\ud83d"}}],'
            '"usage":{"prompt_tokens":1000,"completion_tokens":100}}'
        ),
        COUNTED,
    ),
    "reasoning outside of the output": (
        at_end(
            {
                "prompt_tokens": 1000,
                "completion_tokens": 40,
                "total_tokens": 1100,
                "completion_tokens_details": {"reasoning_tokens": 60},
            }
        ),
        Usage(input=1000, output=100, reasoning=60),
    ),
    "tier in another chunk": (
        event(chunk({"content": "hi"}, service_tier="flex")) + at_end(FULL),
        replace(COUNTED, service_tier="flex"),
    ),
    "no end": (HI + event(chunk({}, usage=FULL)), COUNTED),
    "an error after it": (
        HI + event(chunk({}, usage=FULL)) + event({"error": {"message": "Too busy."}}),
        COUNTED,
    ),
    "beside an error": (
        HI + event({"error": {"message": "Too busy."}, "choices": [], "usage": FULL}),
        COUNTED,
    ),
}

# The other formats --------------------------------------------------------------------------------


def named(type: str, **fields: Any) -> bytes:
    return event({"type": type, **fields}, type)


def completed(kind: str = "completed", **fields: Any) -> bytes:
    response = {"id": "r", "status": kind, "model": "m", "output": []} | fields
    return (
        named("response.created", response={"id": "r", "model": "m", "usage": None})
        + named("response.output_text.delta", item_id="i", output_index=0, content_index=0, delta="hi")
        + named(f"response.{kind}", response=response)
    )


RESPONSES_USAGE = {"input_tokens": 1000, "output_tokens": 100, "total_tokens": 1100}
RESPONSES_FORMS: dict[str, tuple[bytes, Usage]] = {
    "completed": (completed(usage=RESPONSES_USAGE), COUNTED),
    "incomplete": (completed("incomplete", usage=RESPONSES_USAGE), COUNTED),
    "failed": (
        completed("failed", usage=RESPONSES_USAGE, error={"code": "server_error", "message": "x"}),
        COUNTED,
    ),
    "floats": (completed(usage={name: float(count) for name, count in RESPONSES_USAGE.items()}), COUNTED),
    "digits": (completed(usage={name: str(count) for name, count in RESPONSES_USAGE.items()}), COUNTED),
    "details are null": (
        completed(usage={**RESPONSES_USAGE, "input_tokens_details": None, "output_tokens_details": None}),
        COUNTED,
    ),
    "total instead of output": (completed(usage={"input_tokens": 1000, "total_tokens": 1100}), COUNTED),
    "escaped key": (
        event(
            '{"type":"response.completed","response":{"us\\u0061ge":{"input_tokens":1000,"output_tokens":100}}}'
        ),
        COUNTED,
    ),
    "pretty-printed without a name": (
        event(json.dumps({"type": "response.completed", "response": {"usage": RESPONSES_USAGE}}, indent=1)),
        COUNTED,
    ),
    "a tool whose name ends like a delta": (
        completed(
            usage=RESPONSES_USAGE,
            output=[{"type": "function_call", "name": "x.delta", "call_id": "c", "arguments": "{}"}],
        ),
        COUNTED,
    ),
    "before the end": (
        named("response.in_progress", response={"id": "r", "usage": RESPONSES_USAGE}),
        COUNTED,
    ),
    "number out of range beside it": (
        event(
            '{"type":"response.completed","response":{"temperature":1e999,'
            '"usage":{"input_tokens":1000,"output_tokens":100}}}'
        ),
        COUNTED,
    ),
}


def message(start: Any, end: Any, *, text: str = "hi") -> bytes:
    return (
        named("message_start", message={"id": "m", "model": "m", "usage": start})
        + named("content_block_start", index=0, content_block={"type": "text", "text": ""})
        + named("content_block_delta", index=0, delta={"type": "text_delta", "text": text})
        + named("content_block_stop", index=0)
        + named("message_delta", delta={"stop_reason": "end_turn"}, usage=end)
        + named("message_stop")
    )


MESSAGE_START = {"input_tokens": 1000, "output_tokens": 1}
ANTHROPIC_FORMS: dict[str, tuple[bytes, Usage]] = {
    "no input at the end": (message(MESSAGE_START, {"output_tokens": 100}), COUNTED),
    "both at the end": (message(None, {"input_tokens": 1000, "output_tokens": 100}), COUNTED),
    "zeros at the start": (
        message({"input_tokens": 0, "output_tokens": 0}, {"input_tokens": 1000, "output_tokens": 100}),
        COUNTED,
    ),
    "a zero for input at the end": (
        message(MESSAGE_START, {"input_tokens": 0, "output_tokens": 100}),
        COUNTED,
    ),
    "nulls at the end": (
        message(MESSAGE_START, {"input_tokens": None, "output_tokens": 100, "server_tool_use": None}),
        COUNTED,
    ),
    "mistyped at the end": (
        message(MESSAGE_START, "none", text="x" * 80),
        Usage(input=1000, output=20, estimated=True),
    ),
    "floats": (message({"input_tokens": 1000.0}, {"output_tokens": 100.0}), COUNTED),
    "digits": (message({"input_tokens": "1000"}, {"output_tokens": "100"}), COUNTED),
    "cache read at the start only": (
        message({**MESSAGE_START, "cache_read_input_tokens": 50}, {"output_tokens": 100}),
        Usage(input=1000, cache_read=50, output=100),
    ),
    "usage in the last event": (
        message(MESSAGE_START, None)
        + event({"type": "message_delta", "delta": {}, "usage": {"output_tokens": 100}}),
        COUNTED,
    ),
    "escaped key": (
        message(MESSAGE_START, None)
        + event('{"type":"message\\u005fdelta","us\\u0061ge":{"output_tokens":100}}'),
        COUNTED,
    ),
    "cut": (
        message(MESSAGE_START, {"output_tokens": 100}, text="x" * 80).partition(b"event: message_delta")[0],
        Usage(input=1000, output=20, estimated=True),
    ),
}


def generated(text: str, finish: str | None, usage: Any) -> Json:
    candidate = {"index": 0, "content": {"role": "model", "parts": [{"text": text}]}, "finishReason": finish}
    return {"candidates": [candidate], "usageMetadata": usage}


GEMINI_USAGE = {"promptTokenCount": 1000, "candidatesTokenCount": 100, "totalTokenCount": 1100}
GEMINI_FORMS: dict[str, tuple[bytes, Usage]] = {
    "last chunk": (event(generated("hi", "STOP", GEMINI_USAGE)), COUNTED),
    "several": (
        event(generated("h", None, {"promptTokenCount": 1000, "totalTokenCount": 1000}))
        + event(generated("i", "STOP", GEMINI_USAGE)),
        COUNTED,
    ),
    "prompt first, output last": (
        event(generated("h", None, {"promptTokenCount": 1000}))
        + event(generated("i", "STOP", {"candidatesTokenCount": 100})),
        COUNTED,
    ),
    "in a chunk without candidates": (
        event(generated("hi", "STOP", None)) + event({"usageMetadata": GEMINI_USAGE}),
        COUNTED,
    ),
    "then null": (event(generated("hi", "STOP", GEMINI_USAGE)) + event({"usageMetadata": None}), COUNTED),
    "digits": (
        event(generated("hi", "STOP", {name: str(count) for name, count in GEMINI_USAGE.items()})),
        COUNTED,
    ),
    "thoughts": (
        event(
            generated("hi", "STOP", {**GEMINI_USAGE, "candidatesTokenCount": 60, "thoughtsTokenCount": 40})
        ),
        Usage(input=1000, output=100, reasoning=40),
    ),
    "pretty-printed": (event(json.dumps(generated("hi", "STOP", GEMINI_USAGE), indent=1)), COUNTED),
    "escaped key": (
        event(
            '{"candidates":[{"content":{"parts":[{"text":"hi"}]},"finishReason":"STOP"}],'
            '"us\\u0061geMetadata":{"promptTokenCount":1000,"candidatesTokenCount":100}}'
        ),
        COUNTED,
    ),
    "beside candidates that cannot be decoded": (
        event(
            '{"candidates":[{"content":{"parts":7},"finishReason":"STOP"}],'
            '"usageMetadata":{"promptTokenCount":1000,"candidatesTokenCount":100}}'
        ),
        COUNTED,
    ),
    "cut": (
        event(generated("x" * 80, None, {"promptTokenCount": 1000, "totalTokenCount": 1000})),
        Usage(input=1000, output=20, estimated=True),
    ),
}
FORMS = {
    "openai_chat": CHAT_FORMS,
    "openai_responses": RESPONSES_FORMS,
    "anthropic": ANTHROPIC_FORMS,
    "gemini": GEMINI_FORMS,
}
