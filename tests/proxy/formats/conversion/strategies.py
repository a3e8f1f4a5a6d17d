"""Strategies that generate neutral requests and responses."""

import json
from typing import Any

from hypothesis import strategies as st
from msgspec.structs import replace

from proxy.formats.neutral import (
    Choice,
    File,
    Image,
    Message,
    Reasoning,
    Refusal,
    Request,
    Response,
    ResponseFormat,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Usage,
)
from tests.proxy.formats.golden.builders import PDF_DOCUMENT, PNG_PIXEL, SCHEMA

NAMES = st.sampled_from(["get_weather", "find", "a_b-c"])
TEXTS = st.text(st.sampled_from("abc XYZ.äß世🎉\"\\'<{\n"), min_size=1, max_size=12).map(
    lambda text: f"{text.strip()}."
)
OBJECTS = st.dictionaries(
    st.sampled_from(["a", "b c", "ü"]), TEXTS | st.integers(-9, 2**40) | st.booleans() | st.none(), max_size=3
)
CACHE_BREAKPOINTS = st.sampled_from([None, None, "5m", "1h"])
IMAGES = st.sampled_from(
    [Image(media_type="image/png", data=PNG_PIXEL), Image(url="https://example.org/a.png")]
)
FILES = st.sampled_from(
    [
        File(media_type="application/pdf", data=PDF_DOCUMENT, name="a.pdf"),
        File(media_type="application/pdf", url="https://example.org/a.pdf"),
    ]
)
MEDIA = st.builds(
    replace, IMAGES, cache=CACHE_BREAKPOINTS, detail=st.sampled_from([None, "low"])
) | st.builds(replace, FILES, cache=CACHE_BREAKPOINTS)
CONTENT = st.builds(Text, text=TEXTS, cache=CACHE_BREAKPOINTS) | MEDIA
SCHEMAS = st.builds(
    ResponseFormat, schema=st.just(SCHEMA), name=NAMES, description=TEXTS, strict=st.just(True)
)
TOOLS = st.lists(
    st.builds(
        Tool,
        name=NAMES,
        description=TEXTS,
        schema=st.just(SCHEMA),
        strict=st.booleans(),
        cache=CACHE_BREAKPOINTS,
    )
    | st.builds(Tool, name=NAMES, description=TEXTS, custom=st.just(True)),
    max_size=3,
    unique_by=lambda tool: tool.name,
)
TEXT_PARTS: st.SearchStrategy[tuple[Any, ...]] = st.tuples(st.builds(Text, text=TEXTS)) | st.tuples(
    st.builds(Text, text=TEXTS), st.builds(Refusal, text=TEXTS)
)
USAGE = st.builds(
    lambda output, reasoning, **counts: Usage(output=output + reasoning, reasoning=reasoning, **counts),
    **dict.fromkeys(
        ("input", "cache_read", "cache_write_5m", "cache_write_1h", "output", "reasoning"),
        st.integers(0, 999),
    ),
)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """Generate a conversation that any client could have, with any settings."""
    tools = tuple(draw(TOOLS))
    choice = (
        draw(st.none() | st.builds(ToolChoice, mode=st.sampled_from(["auto", "required", "none"])))
        if tools
        else None
    )
    if choice and choice.mode == "required":
        choice = replace(
            choice, names=tuple(draw(st.lists(st.sampled_from([tool.name for tool in tools]), unique=True)))
        )
    parallel = (
        draw(st.sampled_from([None, True, False]))
        if tools and (choice is None or choice.mode != "none")
        else None
    )
    return draw(
        st.builds(
            Request,
            model=st.just("m"),
            messages=st.just(draw(conversations(tools))),
            system=st.lists(st.builds(Text, text=TEXTS, cache=CACHE_BREAKPOINTS), max_size=2).map(tuple),
            tools=st.just(tools),
            tool_choice=st.just(choice),
            parallel_tool_calls=st.just(parallel),
            max_tokens=st.integers(1, 9000),
            temperature=st.none() | st.sampled_from([0.0, 0.5, 1.0]),
            top_p=st.none() | st.sampled_from([0.1, 1.0]),
            top_k=st.none() | st.integers(1, 40),
            stop=st.lists(TEXTS, max_size=4, unique=True).map(tuple),
            seed=st.none() | st.integers(0, 2**31 - 1),
            presence_penalty=st.none() | st.sampled_from([-1.0, 0.5]),
            frequency_penalty=st.none() | st.sampled_from([-1.0, 0.5]),
            n=st.integers(1, 3),
            response_format=st.none()
            | st.builds(
                ResponseFormat, schema=st.just(SCHEMA), name=NAMES, description=TEXTS, strict=st.just(True)
            ),
            reasoning=st.none()
            | st.builds(
                Reasoning, effort=st.sampled_from(["low", "high"]), visible=st.sampled_from([None, True])
            ),
            logprobs=st.none() | st.integers(0, 5),
            user=st.none() | st.just("user-1"),
            stream=st.booleans(),
        )
    )


@st.composite
def conversations(draw: st.DrawFn, tools: tuple[Tool, ...]) -> tuple[Message, ...]:
    """Generate turns of user and model.

    Each call gets its result in the next turn, and the last turn is the user's.
    """
    messages: list[Message] = []
    results: list[ToolResult] = []
    for number in range(draw(st.integers(0, 2))):
        messages.append(user_messages(draw, results))
        if draw(st.booleans()):
            messages.append(Message(role="system", parts=(Text(text=draw(TEXTS)),)))
        called = draw(st.lists(st.sampled_from(tools), max_size=2)) if tools else []
        calls = [draw(tool_call_for(tool, f"call_{number}_{at}")) for at, tool in enumerate(called)]
        results = [draw(tool_result_for(call)) for call in calls]
        messages.append(
            Message(
                role="assistant", parts=(*draw(TEXT_PARTS if not calls else TEXT_PARTS | st.just(())), *calls)
            )
        )
    return (*messages, user_messages(draw, results))


def user_messages(draw: st.DrawFn, results: list[ToolResult]) -> Message:
    return Message(role="user", parts=(*results, *draw(st.lists(CONTENT, min_size=not results, max_size=2))))


def tool_call_for(tool: Tool, call_id: str) -> st.SearchStrategy[ToolCall]:
    arguments = TEXTS if tool.custom else OBJECTS.map(json.dumps)
    return st.builds(
        ToolCall,
        id=st.just(call_id),
        name=st.just(tool.name),
        arguments=arguments,
        custom=st.just(tool.custom),
        cache=CACHE_BREAKPOINTS,
    )


def tool_result_for(call: ToolCall) -> st.SearchStrategy[ToolResult]:
    texts = st.builds(Text, text=TEXTS | OBJECTS.map(json.dumps))
    return st.builds(
        ToolResult,
        call_id=st.just(call.id),
        name=st.just(call.name),
        content=st.just(())
        | st.builds(lambda text, media: (text, *media), texts, st.lists(IMAGES, max_size=1)),
        is_error=st.booleans(),
        custom=st.just(call.custom),
        cache=CACHE_BREAKPOINTS,
    )


@st.composite
def responses(draw: st.DrawFn) -> Response:
    choices = tuple(draw(st.lists(response_choices(), min_size=1, max_size=2)))
    return Response(id="a", model="m", choices=choices, usage=draw(USAGE))


@st.composite
def response_choices(draw: st.DrawFn) -> Choice:
    thoughts = [Thinking(text=text) for text in draw(st.lists(TEXTS, max_size=1))]
    calls = [
        ToolCall(id=f"call_{at}", name=draw(NAMES), arguments=json.dumps(draw(OBJECTS)))
        for at in range(draw(st.integers(0, 2)))
    ]
    finish = draw(st.sampled_from(["tool_calls" if calls else "stop", "length", "content_filter", "other"]))
    sequence = draw(st.none() | TEXTS) if finish == "stop" else None
    return Choice(
        parts=(*thoughts, *draw(TEXT_PARTS | st.just(())), *calls),
        finish_reason=finish,  # type: ignore[arg-type]
        stop_sequence=sequence,
    )
