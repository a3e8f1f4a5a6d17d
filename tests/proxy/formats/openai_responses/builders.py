"""Builders and readers of Responses, for the tests of this folder."""

import json
from typing import Any

from openai.types.responses import Response as SdkResponse
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from proxy.formats import openai_responses as responses
from proxy.formats.json_body import parse_object
from proxy.formats.neutral import (
    Event,
    PartDelta,
    PartEnded,
    PartSigned,
    PartStarted,
    Request,
    Tool,
    Usage,
)
from proxy.formats.quirks import Quirks

SDK_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
SDK_RESPONSE: TypeAdapter[Any] = TypeAdapter(SdkResponse)
USAGE = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 10},
    "output_tokens": 20,
    "output_tokens_details": {"reasoning_tokens": 5},
    "total_tokens": 120,
}
NEUTRAL_USAGE = Usage(
    input=50, cache_read=40, cache_write_5m=10, output=20, reasoning=5, billable_extras={"web_search": 1}
)
REASONING = {
    "id": "rs_1",
    "type": "reasoning",
    "summary": [{"type": "summary_text", "text": "Hm."}],
    "encrypted_content": "gAAA",
}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "status": "completed",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "Grüße 🎉", "annotations": [], "logprobs": []}],
}
CALL = {
    "id": "fc_1",
    "type": "function_call",
    "status": "completed",
    "call_id": "call_1",
    "name": "f",
    "arguments": '{"a":1}',
}
SEARCH = {
    "id": "ws_1",
    "type": "web_search_call",
    "status": "completed",
    "action": {"type": "search", "query": "x"},
}
OUTPUT: list[dict[str, Any]] = [SEARCH, REASONING, MESSAGE, CALL]
APPLY_PATCH = Tool(name="apply_patch", custom=True)


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields}, ensure_ascii=False)}\n\n".encode()


def response(status: str = "completed", **fields: Any) -> dict[str, Any]:
    return {"id": "resp_1", "model": "gpt-x", "status": status, "output": OUTPUT, "usage": USAGE, **fields}


CREATED = event("response.created", response={"id": "resp_1", "model": "gpt-x", "output": [], "usage": None})
COMPLETED = event("response.completed", response=response())
DONE = [event("response.output_item.done", output_index=at, item=item) for at, item in enumerate(OUTPUT)]
STREAM = b"".join(
    [
        CREATED,
        event("keepalive", sequence_number=1),
        b": a comment\n\ndata: junk\n\n",
        DONE[0],
        event(
            "response.output_item.added",
            output_index=1,
            item={**REASONING, "summary": [], "encrypted_content": "early"},
        ),
        event(
            "response.reasoning_summary_text.delta",
            item_id="rs_1",
            output_index=1,
            summary_index=0,
            delta="Hm",
        ),
        event(
            "response.reasoning_summary_text.delta",
            item_id="rs_1",
            output_index=1,
            summary_index=0,
            delta=".",
        ),
        DONE[1],
        event("response.output_item.added", output_index=2, item={**MESSAGE, "content": []}),
        event(
            "response.output_text.delta",
            item_id="msg_1",
            output_index=2,
            content_index=0,
            delta="Grüße ",
            logprobs=[],
        ),
        event(
            "response.output_text.delta",
            item_id="msg_1",
            output_index=2,
            content_index=0,
            delta="🎉",
            logprobs=[],
        ),
        DONE[2],
        event("response.output_item.added", output_index=3, item={**CALL, "arguments": ""}),
        event("response.function_call_arguments.delta", item_id="fc_1", output_index=3, delta='{"a":'),
        event("response.function_call_arguments.delta", item_id="fc_1", output_index=3, delta="1}"),
        DONE[3],
        COMPLETED,
    ]
)


def decode(stream: bytes, cuts: list[int] | None = None) -> list[Event]:
    decoder, events, start = responses.parse_stream(), [], 0
    for cut in [*sorted(cut % len(stream) for cut in cuts or []), len(stream)]:
        events += decoder.feed(stream[start:cut])
        start = cut
    return events + decoder.finish()


def parts_of(events: list[Event]) -> list[tuple[str, str, str | None]]:
    """Return the complete parts of a stream."""
    parts: list[tuple[str, str, str | None]] = []
    for seen in events:
        match seen:
            case PartStarted():
                parts.append((type(seen.part).__name__, "", None))
            case PartDelta():
                parts[-1] = (parts[-1][0], parts[-1][1] + seen.text, parts[-1][2])
            case PartSigned():
                parts[-1] = (*parts[-1][:2], seen.signature)
            case _:
                pass
    return parts


def request(**fields: Any) -> Request:
    return responses.parse_request(
        parse_object(json.dumps({"model": "gpt-x", "input": "Hi", **fields}).encode())
    )


def render(neutral: Request, quirks: Quirks | None = None) -> dict[str, Any]:
    return responses.render_request(neutral, quirks or Quirks()).body


def encode(events: list[Event], neutral_request: Request | None = None) -> list[dict[str, Any]]:
    """Return the client's events, each checked against the SDK's types and numbered in order."""
    encoder = responses.render_stream(neutral_request or request())
    stream = b"".join(map(encoder.encode, events)) + encoder.finish()
    sent = []
    for number, block in enumerate(stream.decode().split("\n\n")[:-1]):
        name, data = block.split("\n")
        fields = json.loads(data.removeprefix("data: "))
        assert name == f"event: {fields['type']}" and fields["sequence_number"] == number
        SDK_EVENT.validate_python(fields)
        sent.append(fields)
    return sent


def event_types(sent: list[dict[str, Any]]) -> list[str]:
    return [fields["type"].removeprefix("response.") for fields in sent]


def part_events(part: Any, *deltas: str) -> list[Event]:
    texts: list[Event] = [PartDelta(choice=0, index=0, text=text) for text in deltas]
    return [PartStarted(choice=0, index=0, part=part), *texts, PartEnded(choice=0, index=0)]
