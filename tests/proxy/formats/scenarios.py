"""Responses that every pair of formats must carry, as neutral types and as streams."""

from typing import Any

from msgspec.structs import replace

from proxy.formats.neutral import (
    Choice,
    Event,
    Failed,
    Finished,
    PartDelta,
    PartEnded,
    PartSigned,
    PartStarted,
    Refusal,
    Response,
    Started,
    Text,
    Thinking,
    Tool,
    ToolCall,
    Usage,
    UsageReported,
)

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WEATHER = Tool(
    name="get_weather",
    description="Weather of a city",
    schema={
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
)
CALL = ToolCall(id="call_1", name="get_weather", arguments='{"city":"Paris"}')
SECOND_CALL = ToolCall(id="call_2", name="get_weather", arguments='{"city":"Zürich"}')
USAGE = Usage(input=60, cache_read=40, output=20, reasoning=5)


def response(*parts: object, finish: str = "stop", usage: Usage | None = USAGE) -> Response:
    return Response(id="answer", model="m", choices=(Choice(parts=parts, finish_reason=finish),), usage=usage)  # type: ignore[arg-type]


RESPONSES: dict[str, Response] = {
    "text": response(Text(text='Grüße, 世界 🎉\n\n"quoted"')),
    "empty": response(finish="stop"),
    "length": response(Text(text="cut of"), finish="length"),
    "filtered": response(finish="content_filter"),
    "tool call": response(CALL, finish="tool_calls"),
    "parallel calls": response(Text(text="Both:"), CALL, SECOND_CALL, finish="tool_calls"),
    "call without arguments": response(ToolCall(id="call_1", name="now"), finish="tool_calls"),
    "thinking": response(Thinking(text="Hm.", signature="c2ln", origin="anthropic"), Text(text="Yes.")),
    "refusal": response(Refusal(text="I cannot."), finish="content_filter"),
    "cache written": response(
        Text(text="x"), usage=Usage(input=5, cache_read=7, cache_write_5m=11, output=3)
    ),
}


def events(response: Response) -> list[Event]:
    """Return the response as a stream, with its text in two pieces."""
    made: list[Event] = [Started(id=response.id, model=response.model)]
    for number, choice in enumerate(response.choices):
        for index, part in enumerate(choice.parts):
            made += part_events(number, index, part)
        made.append(
            Finished(choice=number, finish_reason=choice.finish_reason, stop_sequence=choice.stop_sequence)
        )
    if response.usage is not None:
        made.append(UsageReported(usage=response.usage))
    return made


def part_events(choice: int, index: int, part: object) -> list[Event]:
    match part:
        case Text():
            return part_opened(choice, index, Text(), part.text)
        case Refusal():
            return part_opened(choice, index, Refusal(), part.text)
        case Thinking():
            start = Thinking(origin=part.origin)
            signed = (
                [PartSigned(choice=choice, index=index, signature=part.signature)] if part.signature else []
            )
            return part_opened(choice, index, start, part.text, *signed)
        case ToolCall():
            started, *rest = part_opened(
                choice, index, ToolCall(id=part.id, name=part.name, origin=part.origin), part.arguments
            )
            signature = (
                [PartSigned(choice=choice, index=index, signature=part.signature)] if part.signature else []
            )
            return [started, *signature, *rest]
        case _:
            raise AssertionError(part)


def part_opened(choice: int, index: int, start: object, text: str, *more: Event) -> list[Event]:
    half = len(text) // 2
    pieces = [
        PartDelta(choice=choice, index=index, text=piece) for piece in (text[:half], text[half:]) if piece
    ]
    return [
        PartStarted(choice=choice, index=index, part=start),  # type: ignore[arg-type]
        *pieces,
        *more,
        PartEnded(choice=choice, index=index),
    ]


def collect_response(seen: list[Event]) -> Response:
    """Return the response that a stream's events make up."""
    choices: dict[int, list[Any]] = {}
    ends: dict[int, Finished] = {}
    usage: Usage | None = None
    for event in seen:
        match event:
            case PartStarted():
                choices.setdefault(event.choice, []).append(event.part)
            case PartDelta():
                choices[event.choice][-1] = extend_part(choices[event.choice][-1], event.text)
            case Finished():
                assert event.choice not in ends, "finished twice"
                ends[event.choice] = event
            case UsageReported():
                usage = event.usage
            case Failed():
                raise AssertionError(event.error)
            case _:
                pass
    found = [
        Choice(
            parts=tuple(choices.get(index, ())),
            finish_reason=end.finish_reason,
            stop_sequence=end.stop_sequence,
        )
        for index, end in sorted(ends.items())
    ]
    return Response(id="x", model="m", choices=tuple(found), usage=usage)


def extend_part(part: Any, text: str) -> Any:
    return (
        replace(part, arguments=part.arguments + text)
        if isinstance(part, ToolCall)
        else replace(part, text=part.text + text)
    )
