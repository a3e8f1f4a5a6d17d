"""Conversations and answers that every pair of formats must carry, in neutral words."""

from proxy.formats.neutral import (
    Choice,
    Event,
    Finished,
    Image,
    Message,
    PartDelta,
    PartEnded,
    PartSigned,
    PartStarted,
    Reasoning,
    Refusal,
    Request,
    Response,
    ResponseFormat,
    Started,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Usage,
    UsageSeen,
)

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WEATHER = Tool(
    name="get_weather",
    description="Weather of a city",
    schema={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False},
)
CALL = ToolCall(id="call_1", name="get_weather", arguments='{"city":"Paris"}')
SECOND_CALL = ToolCall(id="call_2", name="get_weather", arguments='{"city":"Zürich"}')
USAGE = Usage(input=60, cache_read=40, output=20, reasoning=5)


def ask(*parts: object, **fields: object) -> Request:
    message = Message(role="user", parts=parts or (Text(text="Hello"),))  # type: ignore[arg-type]
    return Request(model="m", messages=(message,), max_tokens=100, **fields)  # type: ignore[arg-type]


LOOP = (
    Message(role="user", parts=(Text(text="Weather?"),)),
    Message(role="assistant", parts=(Text(text="Let me look."), CALL, SECOND_CALL)),
    Message(
        role="user",
        parts=(
            ToolResult(call_id="call_1", name="get_weather", content=(Text(text='{"degrees": 20}'),)),
            ToolResult(call_id="call_2", name="get_weather", content=(Text(text="no such city"),), is_error=True),
        ),
    ),
)

REQUESTS: dict[str, Request] = {
    "plain": ask(),
    "system": ask(system=(Text(text="Be terse."),), temperature=0.5, top_p=0.9),
    "turns": Request(
        model="m",
        messages=(
            Message(role="user", parts=(Text(text="Hi"),)),
            Message(role="assistant", parts=(Text(text="Hello!"),)),
            Message(role="user", parts=(Text(text="Bye"),)),
        ),
        max_tokens=100,
    ),
    "image": ask(Text(text="What is this?"), Image(mime="image/png", data=PIXEL)),
    "tools": ask(tools=(WEATHER,), tool_choice=ToolChoice(mode="auto")),
    "forced tool": ask(tools=(WEATHER,), tool_choice=ToolChoice(mode="required", names=("get_weather",))),
    "any tool": ask(tools=(WEATHER,), tool_choice=ToolChoice(mode="required")),
    "no tool": ask(tools=(WEATHER,), tool_choice=ToolChoice(mode="none")),
    "tool loop": Request(model="m", messages=LOOP, tools=(WEATHER,), max_tokens=100),
    "schema": ask(response_format=ResponseFormat(schema=WEATHER.schema)),
    "reasoning": ask(reasoning=Reasoning(effort="high")),
}


def answer(*parts: object, finish: str = "stop", usage: Usage | None = USAGE) -> Response:
    return Response(id="answer", model="m", choices=(Choice(parts=parts, finish=finish),), usage=usage)  # type: ignore[arg-type]


ANSWERS: dict[str, Response] = {
    "text": answer(Text(text='Grüße, 世界 🎉\n\n"quoted"')),
    "empty": answer(finish="stop"),
    "length": answer(Text(text="cut of"), finish="length"),
    "filtered": answer(finish="content_filter"),
    "tool call": answer(CALL, finish="tool_calls"),
    "parallel calls": answer(Text(text="Both:"), CALL, SECOND_CALL, finish="tool_calls"),
    "call without arguments": answer(ToolCall(id="call_1", name="now"), finish="tool_calls"),
    "thinking": answer(Thinking(text="Hm.", signature="c2ln", origin="anthropic"), Text(text="Yes.")),
    "refusal": answer(Refusal(text="I cannot."), finish="content_filter"),
    "cache written": answer(Text(text="x"), usage=Usage(input=5, cache_read=7, cache_write_5m=11, output=3)),
}


def events(response: Response) -> list[Event]:
    """The same answer as a stream, its text cut in two."""
    made: list[Event] = [Started(id=response.id, model=response.model)]
    for number, choice in enumerate(response.choices):
        for index, part in enumerate(choice.parts):
            made += part_events(number, index, part)
        made.append(Finished(choice=number, finish=choice.finish, stop_sequence=choice.stop_sequence))
    if response.usage is not None:
        made.append(UsageSeen(usage=response.usage))
    return made


def part_events(choice: int, index: int, part: object) -> list[Event]:
    match part:
        case Text():
            return opened(choice, index, Text(), part.text)
        case Refusal():
            return opened(choice, index, Refusal(), part.text)
        case Thinking():
            start = Thinking(origin=part.origin)
            signed = [PartSigned(choice=choice, index=index, signature=part.signature)] if part.signature else []
            return opened(choice, index, start, part.text, *signed)
        case ToolCall():
            return opened(choice, index, ToolCall(id=part.id, name=part.name), part.arguments)
        case _:
            raise AssertionError(part)


def opened(choice: int, index: int, start: object, text: str, *more: Event) -> list[Event]:
    half = len(text) // 2
    pieces = [PartDelta(choice=choice, index=index, text=piece) for piece in (text[:half], text[half:]) if piece]
    return [PartStarted(choice=choice, index=index, part=start), *pieces, *more, PartEnded(choice=choice, index=index)]  # type: ignore[arg-type]
