"""Capabilities of the formats as data, and strategies that generate requests and responses.

Requests and responses are compared by what both formats of a pair can express.
"""

import json
from typing import Any

import msgspec
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

SUPPORTED_EVERYWHERE = frozenset(["max_tokens", "temperature", "top_p", "stream", "response_format"])
SETTINGS = SUPPORTED_EVERYWHERE | {
    "parallel_tool_calls",
    "top_k",
    "stop",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "n",
    "logprobs",
    "user",
}
DYNAMIC_BUDGET = -1
REQUEST_CAPABILITIES: dict[str, frozenset[str]] = {
    "openai_chat": SUPPORTED_EVERYWHERE
    | {
        "parallel_tool_calls",
        "stop",
        "seed",
        "presence_penalty",
        "frequency_penalty",
        "n",
        "logprobs",
        "user",
    }
    | {
        "effort",
        "names of formats",
        "strict tools",
        "detail",
        "names of files",
        "refusals",
        "instructions in the middle",
    },
    "openai_responses": SUPPORTED_EVERYWHERE
    | {
        "parallel_tool_calls",
        "logprobs",
        "user",
        "effort",
        "visible thoughts",
        "names of formats",
        "strict tools",
        "detail",
    }
    | {
        "names of files",
        "addresses of files",
        "media in results",
        "refusals",
        "instructions in the middle",
        "free text",
        "several names",
    },
    "anthropic": SUPPORTED_EVERYWHERE
    | {
        "parallel_tool_calls",
        "top_k",
        "stop",
        "user",
        "strict tools",
        "names of files",
        "addresses of files",
        "media in results",
    }
    | {"failed results", "cache"},
    "gemini": SUPPORTED_EVERYWHERE
    | {
        "top_k",
        "stop",
        "seed",
        "presence_penalty",
        "frequency_penalty",
        "n",
        "logprobs",
        "budget",
        "visible thoughts",
    }
    | {"addresses of files", "failed results", "several names"},
}
RESPONSE_CAPABILITIES: dict[str, frozenset[str]] = {
    "openai_chat": frozenset({"refusals", "several answers", "cache writes"}),
    "openai_responses": frozenset({"refusals", "other ends", "cache writes"}),
    "anthropic": frozenset({"stop sequences", "cache writes", "hours of cache writes"}),
    "gemini": frozenset({"several answers", "other ends"}),
}
SHOWN_BY_DEFAULT_ELSEWHERE = frozenset(
    {"media in results", "instructions in the middle", "free text", "several names", "names of formats"}
)
"""Features that a format without them expresses in another place.

An image stands beside its result, an instruction at the head, a schema's purpose in the schema.
"""
REFUSED = frozenset({"addresses of files", "n"})
"""Features for which a request may be rejected if a format lacks them."""


# Requests -----------------------------------------------------------------------------------------


def expected_subset(request: Request, words: frozenset[str]) -> Request:
    """Return the request without what these formats cannot express."""
    defaults = {field.name: field.default for field in msgspec.structs.fields(Request)}
    head = (
        ()
        if "instructions in the middle" in words
        else [message for message in request.messages if message.role == "system"]
    )
    return replace(
        request,
        **{name: defaults[name] for name in SETTINGS - words},
        messages=tuple(
            expected_message(message, words) for message in request.messages if message not in head
        ),
        system=tuple(
            expected_part(part, words)
            for part in (*request.system, *(part for message in head for part in message.parts))
        ),
        tools=tuple(expected_tool(tool, words) for tool in request.tools if isinstance(tool, Tool)),
        tool_choice=expected_tool_choice(request.tool_choice, words),
        response_format=expected_response_format(request.response_format, words),
        reasoning=expected_reasoning(request.reasoning, words),
    )


def expected_message(message: Message, words: frozenset[str]) -> Message:
    return replace(message, parts=tuple(expected_part(part, words) for part in message.parts))


def expected_part(part: Any, words: frozenset[str]) -> Any:
    cache = part.cache if "cache" in words and not isinstance(part, Refusal) else None
    match part:
        case Text():
            return replace(part, cache=cache)
        case Image():
            return replace(part, cache=cache, detail=part.detail if "detail" in words else None)
        case File():
            addressed = part.data is not None or "addresses of files" in words
            file = part if addressed else File(media_type="application/pdf", data=PDF_DOCUMENT, name="b.pdf")
            return replace(file, cache=cache, name=file.name if "names of files" in words else None)
        case ToolCall():
            free = part.custom and "free text" in words
            return replace(
                part, cache=cache, custom=free, arguments=part.arguments if free == part.custom else "{}"
            )
        case ToolResult():
            content = [
                expected_part(item, words)
                for item in part.content
                if isinstance(item, Text) or "media in results" in words
            ]
            failed = part.is_error and "failed results" in words
            return replace(
                part,
                cache=cache,
                content=tuple(content),
                is_error=failed,
                custom=part.custom and "free text" in words,
            )
        case Refusal():
            return part if "refusals" in words else Text(text=part.text)
        case _:
            raise AssertionError(part)


def expected_tool(tool: Tool, words: frozenset[str]) -> Tool:
    tool = tool if not tool.custom or "free text" in words else replace(tool, custom=False, schema=SCHEMA)
    strict = bool(tool.strict) and "strict tools" in words and not tool.custom
    return replace(tool, strict=strict, cache=tool.cache if "cache" in words else None)


def expected_tool_choice(choice: ToolChoice | None, words: frozenset[str]) -> ToolChoice | None:
    if choice is None or choice.mode != "required" or "several names" in words:
        return choice
    return replace(choice, names=choice.names[:1])


def expected_response_format(format: ResponseFormat | None, words: frozenset[str]) -> ResponseFormat | None:
    return format if format is None or "names of formats" in words else ResponseFormat(schema=format.schema)


def expected_reasoning(reasoning: Reasoning | None, words: frozenset[str]) -> Reasoning | None:
    if reasoning is None:
        return None
    found = Reasoning(
        effort=reasoning.effort if "effort" in words else None,
        budget=reasoning.budget if "budget" in words and reasoning.budget != DYNAMIC_BUDGET else None,
        visible=reasoning.visible if "visible thoughts" in words else None,
    )
    return None if found == Reasoning() else found


def normalize_request(request: Request, words: frozenset[str]) -> dict[str, Any]:
    """Return what a request means in these formats, however its parts are cut."""
    request = expected_subset(request, words)
    choice, format = request.tool_choice or ToolChoice(), request.response_format
    return {
        "settings": {name: getattr(request, name) for name in (SETTINGS & words) - {"response_format"}},
        "system": "\n\n".join(text.text for text in request.system),
        "marks": [text.cache for text in request.system if text.cache],
        "turns": normalize_turns(request.messages),
        "tools": [
            (tool.name, tool.description, tool.schema, tool.strict, tool.custom, tool.cache)
            for tool in neutral_tools(request)
        ],
        "choice": (choice.mode, choice.names),
        "format": format
        and (
            format.schema,
            format.name,
            format.description,
            bool(format.strict and "names of formats" in words),
        ),
        "reasoning": request.reasoning,
    }


def neutral_tools(request: Request) -> list[Tool]:
    return [tool for tool in request.tools if isinstance(tool, Tool)]


def normalize_turns(messages: tuple[Message, ...]) -> list[tuple[str, list[Any]]]:
    turns: list[tuple[str, list[Any]]] = []
    for message in messages:
        if not turns or turns[-1][0] != message.role:
            turns.append((message.role, []))
        for part in message.parts:
            add(turns[-1][1], normalize_part(part))
    return turns


def add(parts: list[Any], part: Any) -> None:
    """Join adjacent texts, unless a cache mark stands between them."""
    last = parts[-1] if parts else None
    if isinstance(part, Text) and isinstance(last, Text) and not last.cache:
        parts[-1] = replace(part, text=last.text + part.text)
    else:
        parts.append(part)


def normalize_part(part: Any) -> Any:
    match part:
        case Text():
            return replace(part, citations=())
        case Image():
            return replace(
                part,
                media_type=part.media_type if part.data else None,
                detail=None if part.detail == "auto" else part.detail,
            )
        case File():
            return replace(part, origin=None)
        case ToolCall():
            return (
                "call",
                part.id,
                part.name,
                part.arguments if part.custom else json.loads(part.arguments or "{}"),
                part.custom,
                part.cache,
            )
        case ToolResult():
            texts = "".join(item.text for item in part.content if isinstance(item, Text))
            media = [normalize_part(item) for item in part.content if not isinstance(item, Text)]
            return "result", part.call_id, value_of(texts), media, part.is_error, part.custom, part.cache
        case Thinking():
            return "thought", part.text
        case _:
            return part


def value_of(text: str) -> Any:
    """Return a result as Gemini does, which reads an object and writes it back as its own JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return text


# Answers ------------------------------------------------------------------------------------------


def normalize_response(response: Response, words: frozenset[str]) -> dict[str, Any]:
    """Return what a response means in these formats."""
    choices = response.choices if "several answers" in words else response.choices[:1]
    return {
        "choices": [normalize_choice(choice, words) for choice in choices],
        "usage": normalize_usage(response.usage, words),
    }


def normalize_choice(choice: Choice, words: frozenset[str]) -> tuple[Any, ...]:
    parts: list[Any] = []
    for part in choice.parts:
        add(
            parts,
            normalize_part(
                Text(text=part.text) if isinstance(part, Refusal) and "refusals" not in words else part
            ),
        )
    finish = "stop" if choice.finish_reason == "other" and "other ends" not in words else choice.finish_reason
    called = any(isinstance(part, ToolCall) for part in choice.parts)
    finish = "tool_calls" if called and finish == "stop" else finish
    return parts, finish, choice.stop_sequence if "stop sequences" in words else None


def normalize_usage(usage: Usage | None, words: frozenset[str]) -> dict[str, int]:
    assert usage is not None
    counts = {
        "prompt": usage.prompt,
        "read": usage.cache_read,
        "output": usage.output,
        "reasoning": usage.reasoning,
    }
    written = {"written": usage.cache_write_5m + usage.cache_write_1h} if "cache writes" in words else {}
    return (
        counts | written | ({"for an hour": usage.cache_write_1h} if "hours of cache writes" in words else {})
    )


# Anything -----------------------------------------------------------------------------------------

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
    """Generate turns of user and model; every call is answered at once, and the user has the last turn."""
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
