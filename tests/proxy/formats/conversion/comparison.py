"""Comparison of requests and responses by what both formats of a pair can express."""

import json
from typing import Any

import msgspec
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
from tests.proxy.formats.conversion.capabilities import (
    DYNAMIC_BUDGET,
    SETTINGS,
)
from tests.proxy.formats.golden.builders import PDF_DOCUMENT, SCHEMA


def expected_subset(request: Request, words: frozenset[str]) -> Request:
    """Return the request with only the features that both formats support."""
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
    """Return the content of a request in a form in which equal requests are equal, however they are split."""
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
    """Add a part. Join adjacent texts, unless there is a prompt cache breakpoint between them."""
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
    """Return the decoded text of a result, because Gemini's format changes white space in JSON objects."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def normalize_response(response: Response, words: frozenset[str]) -> dict[str, Any]:
    """Return the content of a response in a form in which equal responses are equal."""
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
